// The zones of an installation: a fixed list. All of its data lies on the same machines; zones keep apart what clients keep apart.
// Ids as in the public service (facts, section 3.6), so that what people have written works unchanged.
export interface Zone {
  id: string;
  regionId: string;
}

export const zones: readonly Zone[] = ['ru-central1-a', 'ru-central1-b', 'ru-central1-d'].map((id) => ({
  id,
  regionId: 'ru-central1',
}));

export const zoneIds: readonly string[] = zones.map(({ id }) => id);
