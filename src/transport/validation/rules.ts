// The options of yandex/cloud/validation.proto, read from the descriptors.
import { type DescExtension, type DescField, type DescOneof, type FileRegistry, getOption, hasOption } from '@bufbuild/protobuf';

/** Rules of a string, a number or a message by itself: a field, an element of a list, a key or a value of a map. */
export interface LeafRules {
  pattern?: string;
  value?: string;
  length?: string;
  bytes?: string;
}

export interface FieldRules extends LeafRules {
  required: boolean;
  unique: boolean;
  size?: string;
  mapKey: LeafRules;
}

export interface RuleReader {
  field(field: DescField): FieldRules;
  isExactlyOne(oneof: DescOneof): boolean;
}

/** @throws Error when the descriptors lack an option: they are not ours. */
export function ruleReader(registry: FileRegistry): RuleReader {
  const extension = (name: string): DescExtension => {
    const found = registry.getExtension(`yandex.cloud.${name}`);
    if (found === undefined) throw new Error(`the descriptors lack the option yandex.cloud.${name}`);
    return found;
  };
  const [required, unique, exactlyOne, mapKey] = ['required', 'unique', 'exactly_one', 'map_key'].map(extension) as [
    DescExtension,
    DescExtension,
    DescExtension,
    DescExtension,
  ];
  const texts = Object.fromEntries(['pattern', 'value', 'length', 'bytes', 'size'].map((name) => [name, extension(name)]));
  return {
    field: (field) => ({
      required: getOption(field, required) === true,
      unique: getOption(field, unique) === true,
      ...given(Object.entries(texts).map(([name, option]) => [name, hasOption(field, option) ? getOption(field, option) : ''])),
      mapKey: hasOption(field, mapKey) ? given(Object.entries(getOption(field, mapKey) as object)) : {},
    }),
    isExactlyOne: (oneof) => getOption(oneof, exactlyOne) === true,
  };
}

/** The texts that are not empty, without `$typeName` and the like. */
const given = (entries: [string, unknown][]): LeafRules =>
  Object.fromEntries(entries.filter(([name, text]) => !name.startsWith('$') && typeof text === 'string' && text !== ''));
