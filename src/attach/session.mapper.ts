import { AttachMode, type Session } from '../../generated/obraz/v1/attach.ts';
import type { SessionMode } from './attach-session.entity.ts';
import type { SessionRow } from './session-queries.ts';

export const toModeMessage = (mode: SessionMode): AttachMode =>
  mode === 'READ_WRITE' ? AttachMode.ATTACH_MODE_READ_WRITE : AttachMode.ATTACH_MODE_READ_ONLY;

export const toSessionMessage = ({ id, resourceId, mode, peer, subjectId, machineId, createdAt }: SessionRow): Session => ({
  id,
  resourceId,
  mode: toModeMessage(mode),
  peer,
  subjectId,
  machineId,
  createdAt,
});
