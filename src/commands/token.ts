// `obraz token`: a fresh token of the admin service account, got from the running service as any SDK would get it: by a JWT that is
// signed with the authorized key in the data folder.
import { createPrivateKey } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { CreateIamTokenResponse } from '../../generated/yandex/cloud/iam/v1/iam_token_service.ts';
import { type Config, readConfig } from '../config.ts';
import { StartError } from '../platform/start-error.ts';
import { defineCommand } from './command.ts';

const audience = 'https://iam.api.cloud.yandex.net/iam/v1/tokens';

export const token = defineCommand({
  summary: 'print a fresh token of the admin service account',
  description: `The service has to run. (The file admin.token in the data folder holds one as well, replaced long before it ends.)`,
  run: ({ environment }) => printToken(readConfig(environment)),
});

async function printToken(config: Config): Promise<void> {
  const { SignJWT } = await import('jose');
  const key = await readJson<{ id: string; service_account_id: string; private_key: string }>(config, 'admin-key.json');
  const { addresses } = await readJson<{ addresses: { grpc: string } }>(config, 'bootstrap.json');
  const jwt = await new SignJWT({})
    .setProtectedHeader({ alg: 'PS256', typ: 'JWT', kid: key.id })
    .setIssuer(key.service_account_id)
    .setAudience(audience)
    .setIssuedAt()
    .setExpirationTime('5m')
    .sign(createPrivateKey(key.private_key.slice(key.private_key.indexOf('-----BEGIN'))));
  process.stdout.write(`${(await exchange(addresses.grpc, jwt)).iamToken}\n`);
}

async function exchange(address: string, jwt: string): Promise<CreateIamTokenResponse> {
  const { credentials } = await import('@grpc/grpc-js');
  const { IamTokenServiceClient } = await import('../../generated/yandex/cloud/iam/v1/iam_token_service.ts');
  const client = new IamTokenServiceClient(address, credentials.createInsecure());
  try {
    return await new Promise((resolve, reject) => {
      client.create({ identity: { $case: 'jwt', value: jwt } }, (error, response) =>
        error === null ? resolve(response) : reject(error),
      );
    });
  } catch (error) {
    throw new StartError(`the service at ${address} gave no token (is it running?): ${(error as Error).message}`, {
      cause: error,
    });
  } finally {
    client.close();
  }
}

async function readJson<Value>(config: Config, name: string): Promise<Value> {
  const file = path.resolve(config.dataDirectory, name);
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Value;
  } catch (error) {
    throw new StartError(
      `cannot read ${file}: ${(error as Error).message}. Start the service first, with the same OBRAZ_DATA_DIR`,
      {
        cause: error,
      },
    );
  }
}
