import type { ListSessionsRequest, ListSessionsResponse } from '../../generated/obraz/v1/attach.ts';
import { authenticated, authorize } from '../iam/authorize.ts';
import type { Method } from '../iam/call.ts';
import { DomainError } from '../platform/errors.ts';
import { findAttachables, permissionTo } from './resources.ts';
import { liveSessions, type SessionRow } from './session-queries.ts';
import { toSessionMessage } from './session.mapper.ts';

const maxSessions = 1000;

/** Those of resources that the caller may open for reading himself. */
export const listSessions =
  (): Method<ListSessionsRequest, ListSessionsResponse> =>
  async ({ resourceId }, call) => {
    authenticated(call);
    const rows = await liveSessions(call.em, resourceId === '' ? undefined : resourceId, maxSessions);
    const ids = [...new Set(rows.map((row) => row.resourceId))];
    const visible = new Set<string>();
    for (const { kind, id, folderId } of await findAttachables(call.em, ids)) {
      try {
        await authorize(call, permissionTo(kind, 'READ_ONLY'), { kind: `compute.${kind}`, id, folderId });
        visible.add(id);
      } catch (error) {
        if (!(error instanceof DomainError)) throw error;
      }
    }
    return { sessions: rows.filter((row: SessionRow) => visible.has(row.resourceId)).map(toSessionMessage) };
  };
