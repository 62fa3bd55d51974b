// What a guest on a disk expects of its machine: fixed when an image, snapshot or disk is created, inherited by all that is made
// of it, never changed later (facts of the public API: compute/v1/hardware_generation.proto, image.proto Os).

export type OsType = 'LINUX' | 'WINDOWS';

export interface Os {
  type: OsType;
  /** Version of the NVIDIA driver that is installed, when one is. */
  nvidiaDriver?: string;
}

/** legacy v1 and v2: BIOS; generation2: UEFI. */
export type HardwareGeneration = { kind: 'legacy'; pciTopology: 'V1' | 'V2' } | { kind: 'generation2' };

/** What a resource gets when neither its request nor its source says otherwise. Clients crash when either is unset. */
export const defaultOs: Os = { type: 'LINUX' };
export const defaultHardwareGeneration: HardwareGeneration = { kind: 'legacy', pciTopology: 'V1' };
