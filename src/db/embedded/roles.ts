// What the service finds in its cluster: a database and a role that owns it and is not a superuser, so that SQL which should never
// have run reaches no files and no programs.
import { Client } from 'pg';

export const superuser = 'postgres';
export const role = 'obraz';
export const database = 'obraz';

export interface ServerAddress {
  /** The folder of the Unix socket. */
  host: string;
  port: number;
  password: string;
}

const connectTimeoutMs = 10_000;

/** Makes the role and the database where they are missing: after a crash between initdb and here, too. */
export async function ensureDatabase(address: ServerAddress): Promise<void> {
  const client = new Client({
    ...address,
    user: superuser,
    database: 'postgres',
    connectionTimeoutMillis: connectTimeoutMs,
    ssl: false,
  });
  // A server that ends while nothing is asked is reported by the next query, or by nobody.
  client.on('error', () => {});
  await client.connect();
  try {
    const { rows } = await client.query<{ roles: number; databases: number }>(
      `select (select count(*)::int from pg_roles where rolname = $1) as roles,
              (select count(*)::int from pg_database where datname = $2) as databases`,
      [role, database],
    );
    const { roles, databases } = rows[0]!;
    if (roles === 0) {
      await client.query(`create role ${role} login createdb password ${client.escapeLiteral(address.password)}`);
    }
    if (databases === 0) await client.query(`create database ${database} owner ${role}`);
  } finally {
    await client.end();
  }
}
