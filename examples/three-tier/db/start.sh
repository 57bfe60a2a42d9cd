#!/bin/sh
# Makes the database in an empty volume, then becomes the server. It is the same for the official image and for Debian's
# package, which differ in where the programs are and in the number of the user `postgres`.
set -eu
PATH=$PATH:$(echo /usr/lib/postgresql/*/bin)
volume=/var/lib/postgresql/data
cluster=$volume/cluster

as_postgres() {
  setpriv --reuid=postgres --regid=postgres --init-groups "$@"
}

install --directory --owner=postgres --group=postgres --mode=700 "$volume"
install --directory --owner=postgres --group=postgres --mode=755 /run/postgresql
if [ ! -e "$cluster" ]; then
  # It gets its name when it is complete: what a start that was cut off left is made anew.
  new=$volume/new
  rm -rf "$new"
  password=$(mktemp)
  install --owner=postgres --mode=600 "$POSTGRES_PASSWORD_FILE" "$password"
  as_postgres initdb --pgdata="$new" --username="$POSTGRES_USER" --pwfile="$password" \
    --encoding=UTF8 --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256
  rm "$password"
  echo "host all all all scram-sha-256" >> "$new/pg_hba.conf"
  echo "CREATE DATABASE $POSTGRES_DB" | as_postgres postgres --single -D "$new" postgres
  as_postgres postgres --single -j -D "$new" "$POSTGRES_DB" < /usr/local/share/three-tier/schema.sql
  mv "$new" "$cluster"
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups postgres -D "$cluster" -c "listen_addresses=*" -c jit=off
