// Addresses to listen on, as the configuration writes them: host:port, with brackets around IPv6.
import { isIPv4 } from 'node:net';

export interface Address {
  /** A name, or an IPv4 or IPv6 address without brackets. */
  host: string;
  /** 0 asks for a free one. */
  port: number;
}

/** `127.0.0.1:50051`, `[::1]:0`, `localhost:8443`. @throws RangeError naming the text. */
export function parseAddress(text: string): Address {
  const match = /^(?:\[(?<six>[0-9a-fA-F:.]+(?:%[^\]\s]+)?)\]|(?<host>[^:[\]\s/]+)):(?<port>\d{1,5})$/.exec(text);
  const { six, host, port } = match?.groups ?? {};
  if (port === undefined || Number(port) > 65_535) {
    throw new RangeError(`"${text}" is not an address: write host:port, for example 127.0.0.1:50051 or [::1]:50051`);
  }
  return { host: (six ?? host)!, port: Number(port) };
}

/** The inverse of parseAddress. */
export const formatAddress = ({ host, port }: Address): string => (host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`);

/** Whether only this machine can reach it. A name counts when it is `localhost`: what others stand for is not known beforehand. */
export const isLoopback = ({ host }: Address): boolean =>
  host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'));
