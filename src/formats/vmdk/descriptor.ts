// The text inside a sparse VMDK that says what the disk is made of. It is untrusted like all the rest: names in it are read to be
// refused, never followed. Source: VMware's "Virtual Disk Format 5.0", section "The Descriptor File".
import { convertRemedy } from '../refusal.ts';
import { noVmdk, splitRemedy } from './header.ts';

const readTypes = new Set(['monolithicsparse', 'streamoptimized']);
const flattenRemedy = `Join its files into one first: ${convertRemedy('vmdk').replace('Convert it first: ', '')}`;
const extentLine = /^(RW|RDONLY|NOACCESS)\s+(\d{1,15})\s+([A-Za-z0-9_]+)(?:\s+"([^"]*)")?(?:\s+(\d{1,15}))?\s*$/i;

/** `bytes` are the descriptor's sectors. Answers the disk's size in sectors. @throws DomainError INVALID_ARGUMENT. */
export function parseDescriptor(bytes: Uint8Array): number {
  const end = bytes.indexOf(0);
  const text = Buffer.from(end === -1 ? bytes : bytes.subarray(0, end)).toString('latin1');
  const lines = text.split(/\r\n|\r|\n/).map((line) => line.trim());
  if (text.trim() === '')
    throw noVmdk({
      field: 'the descriptor',
      value: '',
      bound: 'must not be empty: the file is one extent of a split disk',
      remedy: splitRemedy,
    });
  if (!/^#\s*disk descriptorfile/i.test(lines[0] ?? ''))
    throw noVmdk({ field: 'the first line of the descriptor', value: lines[0] ?? '', bound: 'must be "# Disk DescriptorFile"' });

  const settings = new Map<string, string>();
  const extents: RegExpExecArray[] = [];
  for (const line of lines) {
    const extent = extentLine.exec(line);
    const setting = /^([A-Za-z][\w.]*)\s*=\s*(.*)$/.exec(line);
    if (extent !== null) extents.push(extent);
    else if (setting !== null && !settings.has(setting[1]!.toLowerCase()))
      settings.set(setting[1]!.toLowerCase(), setting[2]!.replaceAll('"', ''));
    else if (setting === null && line !== '' && !line.startsWith('#'))
      throw noVmdk({ field: 'a line of the descriptor', value: line, bound: 'must be a comment, a setting or an extent' });
  }

  const createType = settings.get('createtype') ?? '';
  if (!readTypes.has(createType.toLowerCase()))
    throw noVmdk({
      field: 'createType',
      value: createType,
      bound: 'must be monolithicSparse or streamOptimized',
      remedy: flattenRemedy,
    });
  const parent = settings.get('parentcid') ?? 'ffffffff';
  const hint = settings.get('parentfilenamehint') ?? '';
  if (parent.toLowerCase() !== 'ffffffff' || hint !== '')
    throw noVmdk({
      field: hint === '' ? 'parentCID' : 'parentFileNameHint',
      value: hint === '' ? parent : hint,
      bound: 'must not name a parent: names inside an image are never followed',
      remedy: flattenRemedy,
    });
  return sizeOf(extents);
}

/** The one extent is this file, whatever it is called now. */
function sizeOf(extents: RegExpExecArray[]): number {
  const [extent] = extents;
  if (extent === undefined || extents.length > 1)
    throw noVmdk({ field: 'the number of extents', value: extents.length, bound: 'must be 1', remedy: flattenRemedy });
  const [, access, sectors, type, name = '', offset = '0'] = extent as unknown as [
    string,
    string,
    string,
    string,
    string?,
    string?,
  ];
  if (type.toUpperCase() !== 'SPARSE' || Number(offset) !== 0)
    throw noVmdk({
      field: 'the type of the extent',
      value: type,
      bound: 'must be SPARSE, without an offset',
      remedy: flattenRemedy,
    });
  if (access.toUpperCase() === 'NOACCESS')
    throw noVmdk({ field: 'the access of the extent', value: access, bound: 'must be RW or RDONLY', remedy: flattenRemedy });
  if (/[/\\:]/.test(name))
    throw noVmdk({
      field: 'the name of the extent',
      value: name,
      bound: 'must be a name without a path: only data inside this file is read',
      remedy: flattenRemedy,
    });
  return Number(sectors);
}
