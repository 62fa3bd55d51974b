// Whom a token stands for, whoever gave it out: tokens of this service begin with `t1.`, what the operator's identity provider signs does
// not.
import type { Subject } from './call.ts';
import type { ExternalTokens } from './external/external-tokens.ts';
import type { TokenAuthority } from './tokens.ts';

export class Authenticator {
  readonly #authority: TokenAuthority;
  readonly #external: ExternalTokens | undefined;

  constructor(authority: TokenAuthority, external: ExternalTokens | undefined) {
    this.#authority = authority;
    this.#external = external;
  }

  /** The subject of a token that was checked before; `undefined` says nothing about the token. No waiting: the hot path. */
  remembered(token: string): Subject | undefined {
    return this.#authority.remembered(token) ?? this.#external?.remembered(token);
  }

  /** When the token ends by itself that a subject came with, milliseconds since 1970; of the very object that was answered. */
  expiryOf(subject: Subject): number | undefined {
    return this.#authority.expiryOf(subject) ?? this.#external?.expiryOf(subject);
  }

  /** @throws DomainError UNAUTHENTICATED, the same for whatever is wrong; TransientError when it cannot be told. */
  async verify(token: string): Promise<Subject> {
    if (this.#external === undefined || token.startsWith('t1.')) return this.#authority.verify(token);
    return this.remembered(token) ?? (await this.#external.check(token)).subject;
  }
}
