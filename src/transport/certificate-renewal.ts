import type { Log } from '../platform/log.ts';
import type { ServerCertificate } from './listen.ts';
import { type CertificateAuthority, isCurrent, issueServerCertificate } from './tls.ts';

export interface CertificateRenewalOptions {
  authority: CertificateAuthority;
  names: readonly string[];
  /** What an earlier run kept, if anything. */
  kept?: ServerCertificate | undefined;
  /** Hears of every new certificate but the first: give it to the server. */
  onRenewed: (certificate: ServerCertificate) => void;
  log: Log;
  /** For tests. */
  checkEveryMs?: number;
  now?: () => Date;
}

const sixHoursMs = 6 * 3600 * 1000;

/** A server certificate that is good now, and a timer that replaces it in time, for as long as this lives. */
export class CertificateRenewal implements Disposable {
  #certificate: ServerCertificate;
  readonly #timer: NodeJS.Timeout;
  #isChecking = false;

  private constructor(certificate: ServerCertificate, { checkEveryMs = sixHoursMs, ...options }: CertificateRenewalOptions) {
    this.#certificate = certificate;
    this.#timer = setInterval(() => void this.#check(options), checkEveryMs).unref();
  }

  /** @throws RangeError for a name that a certificate cannot have. */
  static async start(options: CertificateRenewalOptions): Promise<CertificateRenewal> {
    const { authority, names, kept, now } = options;
    const isGood = kept !== undefined && isCurrent(kept, authority, names, now?.());
    return new CertificateRenewal(isGood ? kept : await issueServerCertificate(authority, names, now?.()), options);
  }

  get certificate(): ServerCertificate {
    return this.#certificate;
  }

  async #check({ authority, names, onRenewed, log, now }: CertificateRenewalOptions): Promise<void> {
    if (this.#isChecking) return;
    this.#isChecking = true;
    try {
      if (isCurrent(this.#certificate, authority, names, now?.())) return;
      this.#certificate = await issueServerCertificate(authority, names, now?.());
      onRenewed(this.#certificate);
    } catch (error) {
      // The next check tries again; there are weeks of them.
      log.error({ err: error }, 'the server certificate could not be renewed');
    } finally {
      this.#isChecking = false;
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
