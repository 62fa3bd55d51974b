// Which rows hold layers: the roots of garbage collection, and whom a damaged object touches. A new kind of row that holds a layer is
// added here, or its data is deleted.

/** Tables with a column `layer_root`, by what their rows are to people. */
export const layerTables = { image: 'images', snapshot: 'snapshots', disk: 'disks' } as const;

export type LayerHolderKind = keyof typeof layerTables;

/**
 * Every root in use, each once, in one snapshot. Sessions read the base that they began with; jobs pin what they have stored and what they
 * work on.
 */
export const rootsInUse = `${Object.values(layerTables)
  .map((table) => `select layer_root as root from ${table} where layer_root is not null`)
  .join(' union ')}
  union select base_root from attach_sessions where base_root is not null
  union select unnest(pinned_roots) from jobs`;
