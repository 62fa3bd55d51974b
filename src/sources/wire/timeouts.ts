/** How long the parts of an exchange may take. */
export interface Timeouts {
  /** For a TCP connection and, over TLS, its handshake; tried addresses together. */
  connectMs: number;
  /** From the request to the end of the response's head. */
  responseMs: number;
  /** A body must bring `minimumRate` bytes per second, taken over this time. */
  stallMs: number;
  minimumRate: number;
}

export const defaultTimeouts: Timeouts = { connectMs: 10_000, responseMs: 30_000, stallMs: 30_000, minimumRate: 1024 };
