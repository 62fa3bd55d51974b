// Role bindings between messages and the domain. What comes in is checked: known roles, known kinds of subjects; ids are echoed
// verbatim, since users and federations live elsewhere.
import {
  type AccessBinding as AccessBindingMessage,
  AccessBindingAction,
  type AccessBindingDelta as AccessBindingDeltaMessage,
  type AccessBindingsOperationResult,
} from '../../generated/yandex/cloud/access/access.ts';
import { DomainError, type FieldViolation } from '../platform/errors.ts';
import { type Binding, type BindingDelta, maxBindings } from './access-bindings.ts';
import { isRole } from './roles.ts';

const subjectTypes = ['userAccount', 'serviceAccount', 'federatedUser', 'group', 'system'];

/** Source: facts, section 5.2. */
const systemSubject = /^(allUsers|allAuthenticatedUsers|group:(organization|federation):[^:]+:users)$/;

/** SetAccessBindingsRequest.access_bindings. @throws DomainError INVALID_ARGUMENT with every violation. */
export function parseBindings(messages: readonly AccessBindingMessage[]): Binding[] {
  const violations = new Violations('access_bindings', messages.length);
  const bindings = messages.map((message, index) => parseBinding(message, `access_bindings[${index}]`, violations));
  violations.throwIfAny();
  return bindings;
}

/** UpdateAccessBindingsRequest.access_binding_deltas. @throws DomainError INVALID_ARGUMENT with every violation. */
export function parseBindingDeltas(messages: readonly AccessBindingDeltaMessage[]): BindingDelta[] {
  const violations = new Violations('access_binding_deltas', messages.length);
  const deltas = messages.map(({ action, accessBinding }, index): BindingDelta => {
    const field = `access_binding_deltas[${index}]`;
    if (action !== AccessBindingAction.ADD && action !== AccessBindingAction.REMOVE) {
      violations.add(`${field}.action`, 'must be ADD or REMOVE');
    }
    const binding = parseBinding(accessBinding, `${field}.access_binding`, violations);
    return { action: action === AccessBindingAction.ADD ? 'ADD' : 'REMOVE', binding };
  });
  violations.throwIfAny();
  return deltas;
}

export const toBindingMessage = ({ roleId, subject }: Binding): AccessBindingMessage => ({ roleId, subject: { ...subject } });

/** The response of SetAccessBindings and UpdateAccessBindings. */
export const toBindingsResult = (deltas: readonly BindingDelta[]): AccessBindingsOperationResult => ({
  effectiveDeltas: deltas.map(({ action, binding }) => ({
    action: AccessBindingAction[action],
    accessBinding: toBindingMessage(binding),
  })),
});

function parseBinding(message: AccessBindingMessage | undefined, field: string, violations: Violations): Binding {
  const { roleId = '', subject = { id: '', type: '' } } = message ?? {};
  if (!isRole(roleId)) violations.add(`${field}.role_id`, `there is no role "${roleId.slice(0, 64)}"`);
  if (!subjectTypes.includes(subject.type)) {
    violations.add(`${field}.subject.type`, `must be one of ${subjectTypes.join(', ')}, not "${subject.type.slice(0, 64)}"`);
  }
  if (subject.id === '') violations.add(`${field}.subject.id`, 'must not be empty');
  else if (subject.type === 'system' && !systemSubject.test(subject.id)) {
    violations.add(
      `${field}.subject.id`,
      'with type system must be allAuthenticatedUsers, allUsers, group:organization:<id>:users or group:federation:<id>:users',
    );
  }
  return { roleId, subject: { id: subject.id, type: subject.type } };
}

class Violations {
  readonly #all: FieldViolation[] = [];

  constructor(field: string, length: number) {
    if (length > maxBindings) this.add(field, `must hold at most ${maxBindings} items, not ${length}`);
  }

  add(field: string, description: string): void {
    this.#all.push({ field, description });
  }

  throwIfAny(): void {
    const [first] = this.#all;
    if (first === undefined) return;
    // Enough to mend the request; an answer has its bounds too.
    const violations = this.#all.slice(0, 20);
    throw new DomainError('INVALID_ARGUMENT', `${first.field}: ${first.description}`, [{ kind: 'badRequest', violations }]);
  }
}
