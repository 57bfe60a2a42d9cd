"""A stand-in for systemd's manager on a message bus, made with another D-Bus library than the one under test.

It starts, stops and changes nothing: it writes down each call, one line of JSON with the types of what it was
given, and answers as systemd does. What a unit's name ends with changes that:
  -fails.scope   the job fails
  -early.scope   the job is over before the call is answered
  -exists.scope  the name is taken until the failed unit is reset
  -gone.scope    there is no such unit
"""

import json
import sys

import dbus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

NAME = "org.freedesktop.systemd1"
MANAGER = NAME + ".Manager"


def plain(value):
    """The value with its type: [type, value]."""
    kind = type(value).__name__
    if isinstance(value, dbus.Struct):
        return [plain(v) for v in value]
    if isinstance(value, dbus.Array):
        return ["Array:" + str(value.signature), [plain(v)[1] if not isinstance(v, dbus.Struct) else plain(v) for v in value]]
    if isinstance(value, dbus.Boolean):
        return ["Boolean", bool(value)]
    if isinstance(value, str):
        return [kind, str(value)]
    return [kind, int(value)]


class Refusal(dbus.DBusException):
    def __init__(self, name, text):
        super().__init__(text, name=NAME + "." + name)


class Manager(dbus.service.Object):
    def __init__(self, bus, log):
        super().__init__(bus, "/org/freedesktop/systemd1")
        self.log = log
        self.jobs = 0
        self.reset = set()

    def note(self, member, *args):
        self.log.write(json.dumps([member, *[plain(a) for a in args]]) + "\n")
        self.log.flush()

    def job(self, unit):
        self.jobs += 1
        path = f"/org/freedesktop/systemd1/job/{self.jobs}"
        result = "failed" if unit.endswith("-fails.scope") else "done"
        def over():
            for other in range(900, 930):
                self.JobRemoved(other, f"/org/freedesktop/systemd1/job/{other}", "other.service", "failed")
            self.JobRemoved(self.jobs, path, unit, result)
        if unit.endswith("-early.scope"):
            over()
        else:
            GLib.idle_add(over)
        return dbus.ObjectPath(path)

    @dbus.service.signal(MANAGER, signature="uoss")
    def JobRemoved(self, number, job, unit, result):
        pass

    @dbus.service.method(MANAGER, in_signature="ssa(sv)a(sa(sv))", out_signature="o")
    def StartTransientUnit(self, name, mode, properties, aux):
        self.note("StartTransientUnit", name, mode, properties, aux)
        if name.endswith("-exists.scope") and name not in self.reset:
            raise Refusal("UnitExists", f"Unit {name} was already loaded or has a fragment file.")
        return self.job(name)

    @dbus.service.method(MANAGER, in_signature="ss", out_signature="o")
    def StopUnit(self, name, mode):
        self.note("StopUnit", name, mode)
        if name.endswith("-gone.scope"):
            raise Refusal("NoSuchUnit", f"Unit {name} not loaded.")
        return self.job(name)

    @dbus.service.method(MANAGER, in_signature="s")
    def ResetFailedUnit(self, name):
        self.note("ResetFailedUnit", name)
        self.reset.add(str(name))

    @dbus.service.method(MANAGER, in_signature="sba(sv)")
    def SetUnitProperties(self, name, runtime, properties):
        self.note("SetUnitProperties", name, runtime, properties)

    @dbus.service.method(MANAGER, in_signature="ssau")
    def AttachProcessesToUnit(self, name, below, pids):
        self.note("AttachProcessesToUnit", name, below, pids)

    @dbus.service.method("org.freedesktop.DBus.Properties", in_signature="ss", out_signature="v")
    def Get(self, interface, name):
        self.note("Get", interface, name)
        known = {"Version": "252.22-1~deb12u1", "ControlGroup": "/user.slice/user-7.slice/user@7.service"}
        return dbus.String(known[name], variant_level=1)


def main():
    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    bus = dbus.bus.BusConnection(sys.argv[1])
    with open(sys.argv[2], "w") as log:
        name = dbus.service.BusName(NAME, bus)
        manager = Manager(bus, log)
        print("ready", flush=True)
        GLib.MainLoop().run()
        del name, manager


main()
