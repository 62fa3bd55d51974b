// The table of roles in docs/access.md: what comes after its heading is made from src/iam/roles.ts. `--check`: it is what would be made.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type Permission, permissions } from '../src/iam/permissions.ts';
import { permissionsOf, type Role, roles } from '../src/iam/roles.ts';

const file = path.resolve(import.meta.dirname, '../docs/access.md');
const heading = '## Roles\n';

/** `compute.images` → its verbs, in the order of the list of permissions. */
function byResources(held: readonly Permission[]): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const permission of held) {
    const resources = permission.slice(0, permission.lastIndexOf('.'));
    found.set(resources, [...(found.get(resources) ?? []), permission.slice(resources.length + 1)]);
  }
  return found;
}

const all = byResources(permissions);

function describeRole(role: Role): string {
  const held = permissions.filter((permission) => permissionsOf(role).has(permission));
  if (held.length === permissions.length) return `### ${role}\n\nEverything.\n`;
  const lines = [...byResources(held)].map(([resources, verbs]) => {
    const isAll = verbs.length === all.get(resources)!.length;
    return `- \`${resources}\`: ${isAll ? 'all' : verbs.join(', ')}`;
  });
  return `### ${role}\n\n${lines.join('\n')}\n`;
}

const text = readFileSync(file, 'utf8');
const start = text.indexOf(heading);
const end = text.indexOf('\n### ', start);
const prose = (end === -1 ? text : text.slice(0, end)).trimEnd();
const made = `${prose}\n\n${roles.map(describeRole).join('\n')}`;
if (process.argv[2] !== '--check') writeFileSync(file, made);
else if (made !== text) {
  console.error('docs/access.md is not what src/iam/roles.ts says: run node scripts/access-doc.ts');
  process.exitCode = 1;
}
