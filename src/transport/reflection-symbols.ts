import type { DescEnum, DescMessage, FileRegistry } from '@bufbuild/protobuf';

/** The file that declares each symbol, by full name: types, fields, enum values, services, methods and extensions. */
export function symbolFiles(registry: FileRegistry): ReadonlyMap<string, string> {
  const symbols = new Map<string, string>();
  for (const file of registry.files) {
    const name = `${file.name}.proto`;
    const add = (symbol: string): void => void symbols.set(symbol, name);
    const addEnum = (desc: DescEnum): void => {
      add(desc.typeName);
      // Values are siblings of their enum.
      const scope = desc.typeName.slice(0, desc.typeName.lastIndexOf('.') + 1);
      for (const value of desc.values) add(scope + value.name);
    };
    const addMessage = (desc: DescMessage): void => {
      add(desc.typeName);
      for (const member of [...desc.fields, ...desc.oneofs, ...desc.nestedExtensions]) add(`${desc.typeName}.${member.name}`);
      desc.nestedEnums.forEach(addEnum);
      desc.nestedMessages.forEach(addMessage);
    };
    file.enums.forEach(addEnum);
    file.messages.forEach(addMessage);
    for (const extension of file.extensions) add(extension.typeName);
    for (const service of file.services) {
      add(service.typeName);
      for (const method of service.methods) add(`${service.typeName}.${method.name}`);
    }
  }
  return symbols;
}
