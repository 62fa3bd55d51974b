// Listening on an address of the configuration, with the operator's errors in words.
import { lstat, unlink } from 'node:fs/promises';
import { type Server, connect } from 'node:net';
import { parseAddress } from './address.ts';
import { StartError } from './start-error.ts';

/** Makes `server` listen on host:port, and answers the real port. @throws StartError in words for an operator. */
export async function listening(server: Server, address: string): Promise<number> {
  const { host, port } = parseAddress(address);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host, port }, () => {
        server.off('error', reject);
        resolve();
      });
    });
  } catch (error) {
    throw new StartError(`cannot listen on ${address}: ${reason(error as NodeJS.ErrnoException)}`, { cause: error });
  }
  const bound = server.address();
  return typeof bound === 'object' && bound !== null ? bound.port : port;
}

const reasons: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another program listens there',
  EACCES: 'this user may not use the port',
  EADDRNOTAVAIL: 'this machine does not have the address',
  ENOTFOUND: 'the host name is not known',
  EAI_AGAIN: 'the host name is not known',
};

const reason = ({ code, message }: NodeJS.ErrnoException): string => reasons[code ?? ''] ?? message;

/** What a path of a socket may have: 107 bytes and the zero behind them (sockaddr_un of Linux; macOS has 103). */
const maxPathBytes = process.platform === 'darwin' ? 103 : 107;

/**
 * Makes `server` listen on a Unix socket that only this user can connect to (mode 0600). A socket that a dead process left there is
 * replaced; one that somebody listens on, and any other file, is not. Whoever closes the server removes the file by that.
 * @throws StartError in words for an operator.
 */
export async function listeningOnSocket(server: Server, path: string): Promise<void> {
  const bytes = Buffer.byteLength(path);
  if (bytes > maxPathBytes) {
    throw new StartError(`cannot listen on ${path}: the path has ${bytes} bytes, a socket's has ${maxPathBytes} at most`);
  }
  try {
    await removeDeadSocket(path);
    const ready = new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      // The file is made in this very call: from its first moment on it has the mode that the umask leaves.
      const umask = process.umask(0o177);
      try {
        server.listen({ path }, () => {
          server.off('error', reject);
          resolve();
        });
      } finally {
        process.umask(umask);
      }
    });
    await ready;
  } catch (error) {
    if (error instanceof StartError) throw error;
    throw new StartError(`cannot listen on ${path}: ${reason(error as NodeJS.ErrnoException)}`, { cause: error });
  }
}

async function removeDeadSocket(path: string): Promise<void> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (found === undefined) return;
  if (!found.isSocket()) throw new StartError(`cannot listen on ${path}: there is a file that is not a socket`);
  const answers = await new Promise<boolean>((resolve, reject) => {
    const probe = connect(path, () => resolve(true));
    probe.once('error', (error: NodeJS.ErrnoException) => (error.code === 'ECONNREFUSED' ? resolve(false) : reject(error)));
    probe.once('connect', () => probe.destroy());
  });
  if (answers) throw new StartError(`cannot listen on ${path}: another program listens there`);
  await unlink(path);
}
