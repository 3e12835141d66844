# Run by the image of Postgres when it creates the database of compose/postgres.yml: the gateways' own role, with the
# rights that docs/postgres.md names and no others. Nobody can log in as the superuser from another container.
set -e
# By standard input, because everybody on a machine can read the arguments of its processes.
{
	printf "\\\\set password '%s'\n" "$POSTGRES_PASSWORD"
	cat <<'SQL'
CREATE ROLE spanledger LOGIN PASSWORD :'password';
CREATE DATABASE spanledger;
REVOKE ALL ON DATABASE spanledger FROM PUBLIC;
GRANT CONNECT ON DATABASE spanledger TO spanledger;
ALTER ROLE CURRENT_USER PASSWORD NULL;
\connect spanledger
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA spanledger AUTHORIZATION spanledger;
SQL
} | psql --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB"
