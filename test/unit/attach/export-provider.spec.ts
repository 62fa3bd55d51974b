// Tickets that are not good, and the limit on them.
import { expect } from 'chai';
import { exportProvider, type ExportProviderParts } from '../../../src/attach/export-provider.ts';
import { writeTicket } from '../../../src/attach/ticket.ts';
import type { NbdPeer } from '../../../src/nbd/export-provider.ts';
import { Metrics } from '../../../src/platform/metrics.ts';
import { RateLimits } from '../../../src/transport/rate-limits.ts';

describe('The provider of exports', () => {
  const stranger = { keyId: 'k', sign: () => Buffer.alloc(64, 1) };
  const keys = { signer: () => stranger, isSigned: () => false };
  const forged = writeTicket(
    { subject: { id: 'aje', type: 'serviceAccount' }, tokenId: undefined, resourceId: 'epd', mode: 'READ_WRITE', expiresAt: 2e9 },
    keys,
  );
  const peerOf = (remoteAddress: string): NbdPeer => ({
    remoteAddress,
    isUnixSocket: false,
    isTls: false,
    certificateSubject: undefined,
  });

  it('counts tickets that are not good as failed authentications of their address, and looks at no more of them', async () => {
    const off = { subjectCallsPerSecond: 0, subjectChangesPerSecond: 0, addressCallsPerSecond: 0 };
    const limits = new RateLimits({ ...off, failedAuthenticationsPerMinute: 3 }, new Metrics(), () => 1e6);
    let looked = 0;
    const isSigned = (): boolean => {
      looked += 1;
      return false;
    };
    const provider = exportProvider({
      keys: { ...keys, isSigned },
      attempt: (peer, check) => limits.attempt(peer, check),
    } as Partial<ExportProviderParts> as ExportProviderParts);
    const ask = (peer: string): Promise<string> =>
      provider.info(forged, peerOf(peer), new AbortController().signal).then(
        () => 'good',
        (error: Error) => error.message,
      );
    for (const peer of ['[2001:db8::1]:1', '[2001:db8::1]:2', '[2001:db8::2]:1'])
      expect(await ask(peer)).to.match(/^the ticket is not good/);
    expect(await ask('[2001:db8::3]:1')).to.match(/^Too many failed authentications from your address/);
    expect(looked).to.equal(3);
    expect(await ask('192.0.2.1:1')).to.match(/^the ticket is not good/);
    await limits
      .attempt('2001:db8::1:7', async () => {})
      .then(
        () => expect.fail('gRPC and NBD have one limit'),
        ({ code }: { code: string }) => expect(code).to.equal('RESOURCE_EXHAUSTED'),
      );
  });
});
