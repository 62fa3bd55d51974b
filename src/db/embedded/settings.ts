// postgresql.conf, written anew at every start: what it says is what this version of the service says.
export const port = 5432;

export interface SettingsOptions {
  /** A file of the operator's own settings, which win; undefined: there is none. */
  localFile: string | undefined;
  socketFolder: string;
  /** False in tests alone: a crash of the operating system, though not one of the server, may then lose the cluster. */
  durable: boolean;
}

/** The whole file. Sizes and times carry their units, as PostgreSQL reads them. */
export function postgresqlConf({ localFile, socketFolder, durable }: SettingsOptions): string {
  const settings: Record<string, string | number | boolean> = {
    // No TCP: another PostgreSQL on the machine is never in the way, and nobody else can connect.
    listen_addresses: '',
    port,
    unix_socket_directories: socketFolder,
    unix_socket_permissions: '0700',
    max_connections: 100,
    shared_buffers: '128MB',
    work_mem: '4MB',
    maintenance_work_mem: '64MB',
    min_wal_size: '80MB',
    max_wal_size: '512MB',
    fsync: durable,
    synchronous_commit: true,
    full_page_writes: durable,
    // Rows are few and small: no helpers for one query, no processes for replication, no compiler.
    max_parallel_workers_per_gather: 0,
    max_logical_replication_workers: 0,
    max_wal_senders: 0,
    io_method: 'sync',
    jit: false,
    timezone: 'UTC',
    log_timezone: 'UTC',
    datestyle: 'ISO, YMD',
    lc_messages: 'C',
    // A client's error is answered to that client. The log tells of the server: starts, stops, crashes, refused connections.
    log_min_messages: 'log',
    log_min_error_statement: 'panic',
    log_checkpoints: false,
    log_autovacuum_min_duration: -1,
    log_line_prefix: '%m [%p] ',
    logging_collector: false,
  };
  const lines = [
    '# Written by obraz at every start: changes here are lost. Write your own into postgresql.local.conf beside this file.',
    ...Object.entries(settings).map(([name, value]) => `${name} = ${literal(value)}`),
  ];
  if (localFile !== undefined) lines.push(`include = ${literal(localFile)}`);
  return [...lines, ''].join('\n');
}

const literal = (value: string | number | boolean): string =>
  typeof value === 'string' ? `'${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'` : String(value);
