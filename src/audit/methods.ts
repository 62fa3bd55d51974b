// obraz.v1.AuditService: the operator reads what was changed.
import type { EntityManager } from '@mikro-orm/postgresql';
import type { AuditRecord, TailRequest } from '../../generated/obraz/v1/audit.ts';
import { authorizeOperator } from '../iam/authorize-operator.ts';
import type { StreamMethod } from '../iam/call.ts';
import { toLine } from './event.ts';
import { readEvents } from './read-events.ts';

export interface AuditMethodParts {
  fork: () => EntityManager;
}

export const auditMethods = (parts: AuditMethodParts) => ({ tail: tail(parts) });

const tail = ({ fork }: AuditMethodParts): StreamMethod<TailRequest, AuditRecord> =>
  async function* ({ count, afterNumber, follow }, call) {
    const range = { last: Number(count), after: Number(afterNumber), follow };
    // Before each look: who loses the right sees no more.
    const mayLook = () => authorizeOperator(call, 'obraz.audit.read');
    for await (const { position, event } of readEvents(fork, range, call.signal, mayLook))
      yield { number: BigInt(position), json: toLine(event) };
  };
