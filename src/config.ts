// The only file that reads the environment. Every name, its default and its unit stand here; README's table repeats them.
// A name that starts with OBRAZ_ and is not known is an error: a misspelt setting must not be silently ignored.
// (OBRAZ_TEST_* belongs to the tests.)
import { z } from 'zod';
import { isProviderUrl } from './iam/external/provider-url.ts';
import { isLoopback, parseAddress } from './platform/address.ts';

const roles = ['api', 'worker', 'nbd'] as const;
export type Role = (typeof roles)[number];

const list = (text: string): string[] =>
  text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');

const commaSeparated = (fallback: string) => z.string().default(fallback).transform(list);

function isAddress(text: string): boolean {
  try {
    parseAddress(text);
    return true;
  } catch {
    return false;
  }
}

const addressText = z
  .string()
  .refine(isAddress, 'must be host:port, for example 127.0.0.1:50051, [::1]:50051, or port 0 for a free one');

const address = (fallback: string) => addressText.default(fallback);

const positiveInteger = (fallback: number, most: number) => z.coerce.number().int().min(1).max(most).default(fallback);

/** 0: no limit. */
const rate = (fallback: number) => z.coerce.number().int().min(0).max(10_000_000).default(fallback);

const port = z.string().transform(Number).pipe(z.number().int().min(1).max(65_535));

const providerUrl = z
  .string()
  .refine(isProviderUrl, 'must be an https URL (or http on this machine), without a user, a query and a fragment');

const schema = z.object({
  /** Everything that this process keeps: embedded PostgreSQL, image data, keys, bootstrap.json. */
  OBRAZ_DATA_DIR: z.string().min(1).default('./obraz-data'),
  /** Where image data lies; several processes with one DATABASE_URL share it. Default: blobs in the data folder. */
  OBRAZ_BLOB_DIR: z.string().min(1).optional(),
  /** A PostgreSQL to use instead of the embedded one. */
  DATABASE_URL: z
    .string()
    .regex(/^postgres(ql)?:\/\//, 'must be a postgres:// or postgresql:// URL')
    .optional(),
  /** What this process does. */
  OBRAZ_ROLES: commaSeparated('api,worker,nbd').pipe(z.array(z.enum(roles)).min(1)),
  /** gRPC without TLS: keep it on loopback. */
  OBRAZ_GRPC_ADDRESS: address('127.0.0.1:50051'),
  /** gRPC over TLS, for the SDKs and Terraform. */
  OBRAZ_TLS_ADDRESS: address('127.0.0.1:8443'),
  /** Health and metrics over HTTP. */
  OBRAZ_HTTP_ADDRESS: address('127.0.0.1:8080'),
  /** Block access over TCP; what is not loopback needs OBRAZ_NBD_CLIENT_CA_FILE. (The socket nbd.sock in the data folder is always there.) */
  OBRAZ_NBD_ADDRESS: address('127.0.0.1:10809'),
  /** PEM of the authorities that sign the certificates of NBD clients. With it NBD over TCP is served over TLS to those clients alone. */
  OBRAZ_NBD_CLIENT_CA_FILE: z.string().min(1).optional(),
  /** Memory for blocks of images and disks that were read, bytes. */
  OBRAZ_BLOCK_CACHE_BYTES: z.coerce
    .number()
    .int()
    .min(16 * 1024 * 1024)
    .default(256 * 1024 * 1024),
  /** host:port that endpoint discovery names instead of the address that the caller used. */
  OBRAZ_PUBLIC_ADDRESS: addressText.optional(),
  /** Names and addresses that the server certificate covers besides localhost, 127.0.0.1, ::1 and the host name. */
  OBRAZ_TLS_NAMES: commaSeparated(''),
  /** A certificate chain and its key in PEM instead of the built-in CA's. */
  OBRAZ_TLS_CERT_FILE: z.string().min(1).optional(),
  OBRAZ_TLS_KEY_FILE: z.string().min(1).optional(),
  /** Addresses that imports may reach besides public ones: CIDR or host, each with an optional :port. */
  OBRAZ_IMPORT_ALLOW: z.string().default(''),
  /** Ports that imports may reach on public addresses. */
  OBRAZ_IMPORT_PORTS: commaSeparated('80,443').pipe(z.array(port)),
  /** PEM file of certificate authorities that imports trust besides the well-known ones. */
  OBRAZ_IMPORT_CA_FILE: z.string().min(1).optional(),
  /** JSON: entries and mirrors that `obraz catalog` has besides the shipped ones. */
  OBRAZ_CATALOG_FILE: z.string().min(1).optional(),
  /** The operator's proxies for imports, under the names that everybody uses; those in lower case count as well, and first (as with curl). */
  HTTP_PROXY: z.string().optional(),
  HTTPS_PROXY: z.string().optional(),
  /** What imports reach without a proxy: names, addresses and CIDRs; loopback always. */
  NO_PROXY: z.string().optional(),
  /** Imports and other long jobs that run at once in this process. */
  OBRAZ_JOB_CONCURRENCY: positiveInteger(4, 64),
  /** Threads that decode, hash and store. Default: the number of processors, at most 8. */
  OBRAZ_IMPORT_THREADS: z.coerce.number().int().min(1).max(64).optional(),
  /** The rate at which the service reads its stored data again, once a week, to find damage; 0: only `obraz scrub` does. */
  OBRAZ_SCRUB_MIB_PER_SECOND: z.coerce.number().int().min(0).max(100_000).default(20),
  /** How long operations are kept, days from their beginning; those that run stay. */
  OBRAZ_KEEP_OPERATIONS_DAYS: positiveInteger(30, 36_500),
  /** How long an idempotency key answers, hours. */
  OBRAZ_KEEP_IDEMPOTENCY_KEYS_HOURS: positiveInteger(24, 8_760),
  /** Connections to PostgreSQL that this process may open. */
  OBRAZ_DATABASE_POOL_SIZE: positiveInteger(20, 200),
  /** Calls per second of one subject, five seconds' worth at once; 0: as many as it likes. */
  OBRAZ_RATE_SUBJECT_CALLS_PER_SECOND: rate(2_000),
  /** Of those, calls that change something; a minute's worth at once. */
  OBRAZ_RATE_SUBJECT_CHANGES_PER_SECOND: rate(50),
  /** Calls per second from one address (IPv6: from a network of 64 bits), with and without a token. */
  OBRAZ_RATE_ADDRESS_CALLS_PER_SECOND: rate(4_000),
  /** Calls per minute from one address with a token or a proof that is not good; while there are more, no new token is looked at from there. */
  OBRAZ_RATE_FAILED_LOGINS_PER_MINUTE: rate(300),
  /** Audit events as JSON lines: a file that is written to, or - for standard output. Default: they are kept in the database alone. */
  OBRAZ_AUDIT_FILE: z.string().min(1).optional(),
  /** Audit events go after so many days. */
  OBRAZ_KEEP_AUDIT_DAYS: positiveInteger(90, 36_500),
  /** The OpenID Connect provider whose tokens users may come with: its issuer, as it stands in them. */
  OBRAZ_OIDC_ISSUER: providerUrl.optional(),
  /** Whom the tokens are for (`aud`): one of these. */
  OBRAZ_OIDC_AUDIENCE: commaSeparated(''),
  /** Where the provider's keys are, when its discovery document is not to be asked. */
  OBRAZ_OIDC_JWKS_URL: providerUrl.optional(),
  /** As what access bindings name the users. */
  OBRAZ_OIDC_SUBJECT_TYPE: z.enum(['userAccount', 'federatedUser']).default('userAccount'),
  OBRAZ_LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info'),
});

/** How often who may call; 0: no limit. */
interface Rates {
  subjectCallsPerSecond: number;
  subjectChangesPerSecond: number;
  addressCallsPerSecond: number;
  failedAuthenticationsPerMinute: number;
}

export interface OidcConfig {
  issuer: string;
  audiences: string[];
  jwksUrl: string | undefined;
  subjectType: 'userAccount' | 'federatedUser';
}

export interface Config {
  dataDirectory: string;
  blobDirectory: string | undefined;
  databaseUrl: string | undefined;
  databasePoolSize: number;
  roles: ReadonlySet<Role>;
  grpcAddress: string;
  tlsAddress: string;
  httpAddress: string;
  nbd: { address: string; clientAuthorityFile: string | undefined };
  blockCacheBytes: number;
  publicAddress: string | undefined;
  tls: { names: string[]; certificateFile: string | undefined; keyFile: string | undefined };
  import: {
    allow: string;
    publicPorts: number[];
    caFile: string | undefined;
    proxies: { httpProxy: string | undefined; httpsProxy: string | undefined; noProxy: string | undefined };
    threads: number | undefined;
  };
  /** Of `obraz catalog`. */
  catalogFile: string | undefined;
  jobConcurrency: number;
  /** 0: never. */
  scrubBytesPerSecond: number;
  keepOperationsMs: number;
  keepIdempotencyKeysMs: number;
  rates: Rates;
  audit: { file: string | undefined; keepDays: number };
  /** Undefined: service accounts alone. */
  oidc: OidcConfig | undefined;
  logLevel: string;
}

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/** @throws ConfigError naming every wrong setting at once. */
export function readConfig(environment: NodeJS.ProcessEnv): Config {
  const faults = Object.keys(environment)
    .filter((name) => name.startsWith('OBRAZ_') && !name.startsWith('OBRAZ_TEST_') && !(name in schema.shape))
    .map((name) => `${name}: there is no such setting`);
  // An empty value means "not set", as in `OBRAZ_TLS_NAMES= npm start`.
  const given = Object.fromEntries(
    Object.keys(schema.shape).flatMap((name) => {
      const text = (name.endsWith('_PROXY') && environment[name.toLowerCase()]) || environment[name];
      return text ? [[name, text]] : [];
    }),
  );
  const parsed = schema.safeParse(given);
  if (!parsed.success) faults.push(...parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`));
  if ((given['OBRAZ_TLS_CERT_FILE'] === undefined) !== (given['OBRAZ_TLS_KEY_FILE'] === undefined)) {
    faults.push('OBRAZ_TLS_CERT_FILE, OBRAZ_TLS_KEY_FILE: set both or neither');
  }
  if (parsed.success) {
    faults.push(...blockAccessFaults(parsed.data), ...historyFaults(parsed.data), ...oidcFaults(parsed.data));
  }
  if (faults.length > 0 || !parsed.success) throw new ConfigError(faults.join('\n'));
  const value = parsed.data;
  return {
    dataDirectory: value.OBRAZ_DATA_DIR,
    blobDirectory: value.OBRAZ_BLOB_DIR,
    databaseUrl: value.DATABASE_URL,
    databasePoolSize: value.OBRAZ_DATABASE_POOL_SIZE,
    roles: new Set(value.OBRAZ_ROLES),
    grpcAddress: value.OBRAZ_GRPC_ADDRESS,
    tlsAddress: value.OBRAZ_TLS_ADDRESS,
    httpAddress: value.OBRAZ_HTTP_ADDRESS,
    nbd: { address: value.OBRAZ_NBD_ADDRESS, clientAuthorityFile: value.OBRAZ_NBD_CLIENT_CA_FILE },
    blockCacheBytes: value.OBRAZ_BLOCK_CACHE_BYTES,
    publicAddress: value.OBRAZ_PUBLIC_ADDRESS,
    tls: { names: value.OBRAZ_TLS_NAMES, certificateFile: value.OBRAZ_TLS_CERT_FILE, keyFile: value.OBRAZ_TLS_KEY_FILE },
    import: {
      allow: value.OBRAZ_IMPORT_ALLOW,
      publicPorts: value.OBRAZ_IMPORT_PORTS,
      caFile: value.OBRAZ_IMPORT_CA_FILE,
      proxies: { httpProxy: value.HTTP_PROXY, httpsProxy: value.HTTPS_PROXY, noProxy: value.NO_PROXY },
      threads: value.OBRAZ_IMPORT_THREADS,
    },
    catalogFile: value.OBRAZ_CATALOG_FILE,
    jobConcurrency: value.OBRAZ_JOB_CONCURRENCY,
    scrubBytesPerSecond: value.OBRAZ_SCRUB_MIB_PER_SECOND * 1024 ** 2,
    keepOperationsMs: value.OBRAZ_KEEP_OPERATIONS_DAYS * 24 * 60 * 60 * 1000,
    keepIdempotencyKeysMs: value.OBRAZ_KEEP_IDEMPOTENCY_KEYS_HOURS * 60 * 60 * 1000,
    rates: {
      subjectCallsPerSecond: value.OBRAZ_RATE_SUBJECT_CALLS_PER_SECOND,
      subjectChangesPerSecond: value.OBRAZ_RATE_SUBJECT_CHANGES_PER_SECOND,
      addressCallsPerSecond: value.OBRAZ_RATE_ADDRESS_CALLS_PER_SECOND,
      failedAuthenticationsPerMinute: value.OBRAZ_RATE_FAILED_LOGINS_PER_MINUTE,
    },
    audit: { file: value.OBRAZ_AUDIT_FILE, keepDays: value.OBRAZ_KEEP_AUDIT_DAYS },
    oidc:
      value.OBRAZ_OIDC_ISSUER === undefined
        ? undefined
        : {
            issuer: value.OBRAZ_OIDC_ISSUER,
            audiences: value.OBRAZ_OIDC_AUDIENCE,
            jwksUrl: value.OBRAZ_OIDC_JWKS_URL,
            subjectType: value.OBRAZ_OIDC_SUBJECT_TYPE,
          },
    logLevel: value.OBRAZ_LOG_LEVEL,
  };
}

/** Block access that others can reach takes clients with certificates. */
function blockAccessFaults(value: z.infer<typeof schema>): string[] {
  const nbdAddress = value.OBRAZ_NBD_ADDRESS;
  if (!value.OBRAZ_ROLES.includes('nbd') || value.OBRAZ_NBD_CLIENT_CA_FILE !== undefined || isLoopback(parseAddress(nbdAddress)))
    return [];
  return [
    `OBRAZ_NBD_ADDRESS: ${nbdAddress} is not loopback: NBD is served there over TLS to clients with certificates alone. Name their authority with OBRAZ_NBD_CLIENT_CA_FILE, or listen on 127.0.0.1`,
  ];
}

/** A key answers with its operation, which has to be there so long. */
function historyFaults(value: z.infer<typeof schema>): string[] {
  const { OBRAZ_KEEP_IDEMPOTENCY_KEYS_HOURS: hours, OBRAZ_KEEP_OPERATIONS_DAYS: days } = value;
  if (hours <= days * 24) return [];
  return [
    `OBRAZ_KEEP_IDEMPOTENCY_KEYS_HOURS: ${hours} is longer than operations are kept: OBRAZ_KEEP_OPERATIONS_DAYS is ${days}`,
  ];
}

/** A token that was meant for somebody else must not count here. */
function oidcFaults(value: z.infer<typeof schema>): string[] {
  const hasAudience = value.OBRAZ_OIDC_AUDIENCE.length > 0;
  if (value.OBRAZ_OIDC_ISSUER !== undefined) {
    return hasAudience ? [] : ['OBRAZ_OIDC_AUDIENCE: is needed beside OBRAZ_OIDC_ISSUER: whom the tokens are for'];
  }
  return hasAudience || value.OBRAZ_OIDC_JWKS_URL !== undefined
    ? ['OBRAZ_OIDC_ISSUER: is needed for OBRAZ_OIDC_AUDIENCE and OBRAZ_OIDC_JWKS_URL to count']
    : [];
}
