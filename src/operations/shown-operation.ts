// An operation as its reader may see it. The response of a change of bindings tells who has which role: it is for the one who made the
// change, and for those who may see the bindings themselves; others see that there was one.
import { AccessBindingsOperationResult } from '../../generated/yandex/cloud/access/access.ts';
import { authenticated } from '../iam/authorize.ts';
import type { Call } from '../iam/call.ts';
import { resourceOfKind, seeingBindings } from '../iam/resource.ts';
import type { Operation } from './operation.entity.ts';
import { type OperationMessage, toOperationMessage } from './operation.mapper.ts';
import { pack } from './pack.ts';

const nobody = pack(AccessBindingsOperationResult, { effectiveDeltas: [] });

export async function shownOperation(call: Pick<Call, 'subject' | 'access'>, operation: Operation): Promise<OperationMessage> {
  const subject = authenticated(call);
  const { responseType, createdBy, resourceKind, resourceId, folderId } = operation;
  if (responseType !== nobody.typeUrl || createdBy === subject.id) return toOperationMessage(operation);
  const resource = resourceOfKind(resourceKind, resourceId, folderId);
  const mayKnow = await call.access.isAllowed(subject, seeingBindings(resourceKind), resource);
  return mayKnow ? toOperationMessage(operation) : toOperationMessage(operation, nobody.value);
}
