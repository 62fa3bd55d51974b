// A log of writes above a disk's base, in a file of one machine. A disk's bytes are its base, overlaid by its generations in ascending
// order. Written by generation-queries.ts alone, which tells the rules.
import { defineEntity, p } from '@mikro-orm/core';
import { instant, int8, text } from '../db/columns.ts';

/** OPEN: a session may be appending to it. SEALED: its first `lengthBytes` are the generation, for ever. */
export type GenerationState = 'OPEN' | 'SEALED';

const DiskGenerationSchema = defineEntity({
  name: 'DiskGeneration',
  tableName: 'disk_generations',
  properties: {
    diskId: text().primary(),
    /** Ascending; counted anew when the disk has none left. */
    generation: p.integer().primary(),
    state: text().$type<GenerationState>(),
    machineId: text(),
    /** The session that wrote it: with the number it names the file. */
    writerId: text(),
    /** Of a sealed one, the file's header included. */
    lengthBytes: int8().nullable(),
    createdAt: instant(),
  },
  uniques: [{ name: 'disk_generations_open_unique', properties: ['diskId'], where: "state = 'OPEN'" }],
  indexes: [{ name: 'disk_generations_machine_index', properties: ['machineId'] }],
});

export class DiskGeneration extends DiskGenerationSchema.class {}
DiskGenerationSchema.setClass(DiskGeneration);
export { DiskGenerationSchema };
