// Checks requests by the value rules that the protos state as options (yandex/cloud/validation.proto), all violations at once. A zero
// or empty field counts as not given and breaks no rule but `required`: Terraform sends `min_disk_size: 0` and `os.type: 0`. Beyond the
// options (and for an update only where its mask looks): strings are UTF-8 without NUL, enums have numbers that are known, times lie in the years 1 to 9999.
import { DomainError, type FieldViolation } from '../platform/errors.ts';
import type { Descriptors } from './descriptors.ts';
import { messageCompiler } from './validation/message.ts';

/** What is wrong with a decoded request; an empty list when it is good. */
export type Validate = (request: object) => readonly FieldViolation[];

export interface Validator {
  /** The check of a method's request, by path: `/yandex.cloud.compute.v1.ImageService/Get`. @throws Error for an unknown method. */
  forMethod(path: string): Validate;
  /** The check of any message type, by its full name. @throws Error for an unknown type. */
  forType(typeName: string): Validate;
}

const nothing: readonly FieldViolation[] = [];

/** Compiles the rules of every request of every service. @throws Error for a rule that does not fit its field. */
export function createValidator({ registry }: Descriptors): Validator {
  const compile = messageCompiler(registry);
  const validates = new Map<string, Validate>();
  const forType = (typeName: string): Validate => {
    const known = validates.get(typeName);
    if (known !== undefined) return known;
    const desc = registry.getMessage(typeName);
    if (desc === undefined) throw new Error(`the descriptors have no message ${typeName}`);
    const check = compile(desc);
    const hasMask = desc.fields.some(({ name }) => name === 'update_mask');
    const validate: Validate = (request) => {
      const violations: FieldViolation[] = [];
      check(request, '', violations);
      if (violations.length === 0) return nothing;
      return hasMask ? withinMask(violations, request) : violations;
    };
    validates.set(typeName, validate);
    return validate;
  };
  const methods = new Map<string, Validate>();
  for (const desc of registry) {
    if (desc.kind !== 'service') continue;
    for (const method of desc.methods) methods.set(`/${desc.typeName}/${method.name}`, forType(method.input.typeName));
  }
  return {
    forType,
    forMethod(path) {
      const validate = methods.get(path);
      if (validate === undefined) throw new Error(`the descriptors have no method ${path}`);
      return validate;
    },
  };
}

/** A field that an update does not change may be anything: clients leave it empty, or send what they had. Ids are no such fields. */
function withinMask(
  violations: FieldViolation[],
  { updateMask = [] }: { updateMask?: string[] | undefined },
): readonly FieldViolation[] {
  if (updateMask.length === 0) return violations;
  const looked = new Set(updateMask.map((path) => path.split('.')[0]!.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)));
  return violations.filter(({ field }) => {
    const name = field.split(/[.[]/)[0]!;
    return looked.has(name) || name.endsWith('_id') || name === 'update_mask';
  });
}

const maxTextLength = 1000;

/** INVALID_ARGUMENT with the violations, also in its text: the SDKs and Terraform show no details. */
export function invalidRequest(violations: readonly FieldViolation[]): DomainError {
  let text = '';
  for (const [index, { field, description }] of violations.entries()) {
    const next = `${index === 0 ? '' : '; '}${field}: ${description}`;
    if (index > 0 && text.length + next.length > maxTextLength) {
      text += `; and ${violations.length - index} more`;
      break;
    }
    text += next;
  }
  return new DomainError('INVALID_ARGUMENT', text, [{ kind: 'badRequest', violations: [...violations] }]);
}
