import type { ListSessionsRequest, ListSessionsResponse } from '../../generated/obraz/v1/attach.ts';
import { authenticated } from '../iam/authorize.ts';
import type { Call, Method } from '../iam/call.ts';
import type { Permission } from '../iam/permissions.ts';
import { type AttachableKind, findAttachables } from './resources.ts';
import { liveSessions, type SessionRow } from './session-queries.ts';
import { toSessionMessage } from './session.mapper.ts';

const maxSessions = 1000;

const permissions: Record<AttachableKind, Permission> = {
  disk: 'compute.disks.listOperations',
  image: 'compute.images.listOperations',
  snapshot: 'compute.snapshots.listOperations',
};

/** The caller's own, and those of resources whose operations he may see: a session tells who works from where. The newest come first. */
export const listSessions =
  (): Method<ListSessionsRequest, ListSessionsResponse> =>
  async ({ resourceId: asked }, call) => {
    const { id: subjectId } = authenticated(call);
    const resourceId = asked === '' ? undefined : asked;
    const own = await liveSessions(call.em, { resourceId, subjectId }, maxSessions);
    const all = await liveSessions(call.em, { resourceId }, maxSessions);
    const others = await visible(
      call,
      all.filter((row) => row.subjectId !== subjectId),
    );
    const newestFirst = [...own, ...others].sort((a, b) => b.createdAt.getTime() - a.createdAt.getTime());
    return { sessions: newestFirst.slice(0, maxSessions).map(toSessionMessage) };
  };

async function visible(call: Call, rows: readonly SessionRow[]): Promise<SessionRow[]> {
  const subject = authenticated(call);
  const ids = [...new Set(rows.map(({ resourceId }) => resourceId))];
  const found = await findAttachables(call.em, ids);
  const may = await Promise.all(
    found.map(async ({ kind, id, folderId }) =>
      call.access.isAllowed(subject, permissions[kind], { kind: `compute.${kind}`, id, folderId }),
    ),
  );
  const seen = new Set(found.filter((_, index) => may[index]).map(({ id }) => id));
  return rows.filter(({ resourceId }) => seen.has(resourceId));
}
