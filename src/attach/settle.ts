// Settles what writers left that died, lost their lease or could not say goodbye: seals their generations at the length that the files
// prove. Only generations of this machine, and only when no session of this process writes them: the lock of the data folder says that no
// other process does.
import type { EntityManager } from '@mikro-orm/postgresql';
import type { AttachAudit } from '../audit/attach-audit.ts';
import { TransientError } from '../platform/errors.ts';
import type { Log } from '../platform/log.ts';
import { OverlayFailedError, OverlayFullError } from '../storage/overlay/errors.ts';
import { recoverGeneration } from '../storage/overlay/generation.ts';
import type { GenerationFiles } from './generation-files.ts';
import { type GenerationRow, generationsOf, lockDiskRow, sealAbandoned } from './generation-queries.ts';
import { removeSessions } from './session-queries.ts';

export interface SettleParts {
  fork: () => EntityManager;
  files: GenerationFiles;
  machineId: string;
  isWriting: (sessionId: string) => boolean;
  log: Log;
  /** Of writers whose sessions end here. */
  audit?: AttachAudit;
}

/** In the disk's turn. @throws DomainError DATA_LOSS when a log is missing or damaged; TransientError when it cannot be made durable. */
export async function settleDisk(parts: SettleParts, diskId: string, signal?: AbortSignal): Promise<void> {
  for (const row of await generationsOf(parts.fork(), diskId)) {
    if (isAbandoned(parts, row)) await settle(parts, row, signal);
  }
}

export const isAbandoned = ({ machineId, isWriting }: SettleParts, row: GenerationRow): boolean =>
  row.state === 'OPEN' && row.machineId === machineId && !isWriting(row.writerId);

async function settle(parts: SettleParts, row: GenerationRow, signal: AbortSignal | undefined): Promise<void> {
  const { fork, files, machineId, log, audit } = parts;
  await using recovered = await recoverGeneration(files.of(row), row, signal).catch((error: unknown) => {
    const isOfTheWorld = error instanceof OverlayFailedError || error instanceof OverlayFullError;
    throw isOfTheWorld ? new TransientError(`Disk ${row.diskId}: ${error.message}`, { cause: error }) : error;
  });
  const { lengthBytes } = recovered;
  await fork().transactional(async (em) => {
    await lockDiskRow(em, row.diskId);
    await sealAbandoned(em, { ...row, lengthBytes }, machineId);
    const ended = await removeSessions(em, [row.writerId]);
    await audit?.detached(em, ended);
  });
  log.info({ diskId: row.diskId, generation: row.generation, lengthBytes }, 'what a writer left was sealed');
}
