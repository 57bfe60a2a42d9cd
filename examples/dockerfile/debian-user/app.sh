#!/bin/sh
exec id -un
