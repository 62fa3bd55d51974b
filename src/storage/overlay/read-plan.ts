// What a read of an overlay is made of: for each sector the newest generation that has it, else the base.
import type { LayerView } from '../layer-view.ts';
import type { Generation } from './generation.ts';
import { groupBytes, sectorState, wholeGroup } from './generation-index.ts';
import { positionUnit, sectorBytes } from './log-format.ts';

/** The layers of an overlay at one moment. Generations ascend. */
export interface Stack {
  readonly base: LayerView;
  readonly generations: readonly Generation[];
}

/** Told of consecutive runs that make up a range. */
export interface RunVisitor {
  /** Nothing was written to [offset, end): the base has it. */
  base(offset: number, end: number): void;
  zeros(offset: number, end: number, trimmed: boolean): void;
  /** One sector, which lies at byte `position` of the generation's log. [offset, end) is the part of it that is wanted. */
  sector(offset: number, end: number, generation: Generation, position: number, check: number): void;
}

/** Visits [offset, end) in order. Synchronous, so that it sees one moment. */
export function visitRuns(stack: Stack, offset: number, end: number, visitor: RunVisitor): void {
  let baseFrom = offset;
  let group = Math.floor(offset / groupBytes);
  for (let at = offset; at < end; group += 1) {
    const groupEnd = Math.min((group + 1) * groupBytes, end);
    if (isTouched(stack, group)) {
      if (baseFrom < at) visitor.base(baseFrom, at);
      visitGroup(stack, group, at, groupEnd, visitor);
      baseFrom = groupEnd;
    }
    at = groupEnd;
  }
  if (baseFrom < end) visitor.base(baseFrom, end);
}

export function isTouched({ generations }: Stack, group: number): boolean {
  for (let index = generations.length - 1; index >= 0; index -= 1)
    if (generations[index]!.index.find(group) !== wholeGroup.absent) return true;
  return false;
}

function visitGroup(stack: Stack, group: number, offset: number, end: number, visitor: RunVisitor): void {
  const start = group * groupBytes;
  for (let at = offset; at < end;) {
    const sector = Math.floor((at - start) / sectorBytes);
    const next = Math.min(end, start + (sector + 1) * sectorBytes);
    visitSector(stack, group, sector, at, next, visitor);
    at = next;
  }
}

function visitSector(
  { generations }: Stack,
  group: number,
  sector: number,
  offset: number,
  end: number,
  visitor: RunVisitor,
): void {
  for (let at = generations.length - 1; at >= 0; at -= 1) {
    const generation = generations[at]!;
    const { index } = generation;
    const slot = index.find(group);
    if (slot === wholeGroup.absent) continue;
    const position =
      slot >= 0 ? index.position(slot, sector) : slot === wholeGroup.zeros ? sectorState.zeros : sectorState.trimmed;
    if (position === sectorState.absent) continue;
    if (position < sectorState.firstPosition) return visitor.zeros(offset, end, position === sectorState.trimmed);
    return visitor.sector(offset, end, generation, position * positionUnit, index.check(slot, sector));
  }
  visitor.base(offset, end);
}

/** The position of one sector when `generation` is the newest that has it; else undefined. */
export function currentPosition(
  { generations }: Stack,
  group: number,
  sector: number,
): { generation: Generation; position: number } | undefined {
  for (let at = generations.length - 1; at >= 0; at -= 1) {
    const generation = generations[at]!;
    const slot = generation.index.find(group);
    if (slot === wholeGroup.absent) continue;
    const position = slot >= 0 ? generation.index.position(slot, sector) : sectorState.zeros;
    if (position === sectorState.absent) continue;
    return { generation, position: position * positionUnit };
  }
  return undefined;
}
