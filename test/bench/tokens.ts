// How long a refusal takes, by what is wrong with the token or the JSON Web Token: an attacker must not learn from it which part was wrong.
// Medians of many, each kind in turn with the others, as a ratio to a wrong signature.
import { generateKeyPairSync, sign } from 'node:crypto';
import { SignJWT } from 'jose';
import { AuthorizedKey } from '../../src/iam/authorized-key.entity.ts';
import { verifyServiceAccountJwt } from '../../src/iam/iam-token-service/service-account-jwt.ts';
import { ServiceAccount } from '../../src/iam/service-account.entity.ts';
import { TokenAuthority } from '../../src/iam/tokens.ts';
import { iamSchemas } from '../support/iam-schemas.ts';
import { stopTestCluster } from '../support/postgres.ts';
import { testOrm } from '../support/test-orm.ts';
import { median, table } from './figures.ts';

const rounds = 1500;

export async function benchTokens(): Promise<void> {
  const database = await testOrm(iamSchemas);
  const fork = () => database.orm.em.fork();
  const authority = await TokenAuthority.open({ forkEm: fork });
  try {
    const account = { id: 'ajebench', type: 'serviceAccount' };
    const pair = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const em = fork();
    const described = { createdAt: new Date(), description: '' };
    em.create(ServiceAccount, {
      ...described,
      id: account.id,
      folderId: 'b1g',
      name: 'bench',
      labels: {},
      status: 'ACTIVE',
    } as never);
    const publicKey = pair.publicKey.export({ type: 'spki', format: 'pem' }) as string;
    em.create(AuthorizedKey, {
      ...described,
      id: 'ajekey',
      serviceAccountId: account.id,
      keyAlgorithm: 'RSA_2048',
      publicKey,
    } as never);
    await em.flush();
    const [prefix, text] = authority.issue(account).token.split('.') as [string, string];
    const stranger = generateKeyPairSync('ed25519').privateKey;
    const claims = JSON.parse(Buffer.from(text, 'base64url').toString()) as object;
    const forged = (changes: object): string => {
      const signed = `${prefix}.${Buffer.from(JSON.stringify({ ...claims, ...changes })).toString('base64url')}`;
      return `${signed}.${sign(null, Buffer.from(signed), stranger).toString('base64url')}`;
    };
    await compare(
      'tokens',
      {
        'a wrong signature': forged({}),
        'a key that there is not': forged({ kid: '99' }),
        'an account that there is not': forged({ sub: 'ajenobody' }),
        'another type of subject': forged({ typ: 'userAccount' }),
        'an end that has passed': forged({ exp: 1 }),
      },
      (token) => authority.verify(token),
    );
    const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    const now = Math.floor(Date.now() / 1000);
    const jwt = ({ kid = 'ajekey', iss = account.id, exp = now + 3600, key = other } = {}) =>
      new SignJWT({ iss, iat: now, exp }).setProtectedHeader({ typ: 'JWT', alg: 'PS256', kid }).sign(key);
    await compare(
      'JSON Web Tokens',
      {
        'a wrong signature': await jwt(),
        'a key that there is not': await jwt({ kid: 'ajenokey' }),
        'another account': await jwt({ iss: 'ajenobody' }),
        'a good signature of another account': await jwt({ iss: 'ajenobody', key: pair.privateKey }),
      },
      (made) => verifyServiceAccountJwt(fork(), made),
    );
  } finally {
    await authority[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
    await stopTestCluster();
  }
}

async function compare(title: string, texts: Record<string, string>, check: (text: string) => Promise<unknown>): Promise<void> {
  const micros = new Map(Object.keys(texts).map((what): [string, number[]] => [what, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (const [what, text] of Object.entries(texts)) {
      const startedAt = performance.now();
      await check(text).catch(() => {});
      micros.get(what)!.push((performance.now() - startedAt) * 1000);
    }
  }
  const [first] = micros.values();
  const base = median(first!);
  table([
    [title, 'median, µs', 'ratio'],
    ...[...micros].map(([what, all]) => [what, median(all).toFixed(0), (median(all) / base).toFixed(2)]),
  ]);
}
