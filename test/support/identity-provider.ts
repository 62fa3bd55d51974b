// An OpenID Connect provider on a free port, as far as this service sees one: a discovery document and public keys.
import type { KeyObject } from 'node:crypto';
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, type JWK, type JWTHeaderParameters, type JWTPayload, SignJWT } from 'jose';

export class IdentityProvider implements AsyncDisposable {
  readonly issuer: string;
  /** What is answered under each path; a string as it is, 404 for what is not there, a redirect for a URL. */
  readonly documents = new Map<string, object | string | URL>();
  /** Requests so far. */
  requests = 0;
  readonly #keys: { id: string; privateKey: KeyObject; publicKey: JWK }[] = [];
  readonly #close: () => Promise<void>;

  private constructor(issuer: string, close: () => Promise<void>) {
    this.issuer = issuer;
    this.#close = close;
  }

  static async start(): Promise<IdentityProvider> {
    const server = createServer((request, response) => {
      provider.requests += 1;
      const document = provider.documents.get(request.url!);
      if (document === undefined) response.writeHead(404).end();
      else if (document instanceof URL) response.writeHead(302, { location: document.href }).end();
      else {
        const text = typeof document === 'string' ? document : JSON.stringify(document);
        response.writeHead(200, { 'content-type': 'application/json' }).end(text);
      }
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const provider = new IdentityProvider(issuer, async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    });
    await provider.addKey('first');
    provider.documents.set('/.well-known/openid-configuration', { issuer, jwks_uri: `${issuer}/keys` });
    return provider;
  }

  /** A new key that signs from now on; the older ones stay good. */
  async addKey(id: string): Promise<void> {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    this.#keys.unshift({ id, privateKey, publicKey: { ...(await exportJWK(publicKey)), kid: id, alg: 'RS256', use: 'sig' } });
    this.#publish();
  }

  #publish(): void {
    this.documents.set('/keys', { keys: this.#keys.map(({ publicKey }) => publicKey) });
  }

  /** The public half of the newest key. */
  get publicKey(): JWK {
    return this.#keys[0]!.publicKey;
  }

  /** A token as the provider gives them out: of an hour, for the audience `obraz`. */
  token(claims: JWTPayload, header: Partial<JWTHeaderParameters> = {}, key?: KeyObject): Promise<string> {
    const { id, privateKey } = this.#keys[0]!;
    const now = Math.floor(Date.now() / 1000);
    return new SignJWT({ iss: this.issuer, aud: 'obraz', iat: now, exp: now + 3600, ...claims })
      .setProtectedHeader({ typ: 'JWT', alg: 'RS256', kid: id, ...header })
      .sign(key ?? privateKey);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#close();
  }
}
