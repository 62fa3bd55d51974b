// Os and HardwareGeneration between messages and the domain. Unset and TYPE_UNSPECIFIED mean "not given": Terraform sends os.type 0.
import {
  type HardwareGeneration as HardwareGenerationMessage,
  PCITopology,
} from '../../generated/yandex/cloud/compute/v1/hardware_generation.ts';
import { type Os as OsMessage, Os_Type } from '../../generated/yandex/cloud/compute/v1/image.ts';
import { invalidArgument } from '../platform/errors.ts';
import type { HardwareGeneration, Os } from './guest.ts';

export function toOsMessage(os: Os): OsMessage {
  return {
    type: os.type === 'WINDOWS' ? Os_Type.WINDOWS : Os_Type.LINUX,
    nvidia: os.nvidiaDriver === undefined ? undefined : { driver: os.nvidiaDriver },
  };
}

/** What the request says of the operating system; `inherited` fills what it leaves unset. */
export function fromOsMessage(message: OsMessage | undefined, inherited: Os): Os {
  const type =
    message === undefined || message.type === Os_Type.TYPE_UNSPECIFIED
      ? inherited.type
      : message.type === Os_Type.WINDOWS
        ? 'WINDOWS'
        : 'LINUX';
  const nvidiaDriver = message?.nvidia === undefined ? inherited.nvidiaDriver : message.nvidia.driver;
  return nvidiaDriver === undefined ? { type } : { type, nvidiaDriver };
}

export function toHardwareGenerationMessage(generation: HardwareGeneration): HardwareGenerationMessage {
  if (generation.kind === 'generation2') return { features: { $case: 'generation2Features', value: {} } };
  const pciTopology = generation.pciTopology === 'V2' ? PCITopology.PCI_TOPOLOGY_V2 : PCITopology.PCI_TOPOLOGY_V1;
  return { features: { $case: 'legacyFeatures', value: { pciTopology } } };
}

/** The generation that the request asks for, or `inherited` when it asks for none. Legacy features without a topology mean the inherited one, else V1. */
export function fromHardwareGenerationMessage(
  message: HardwareGenerationMessage | undefined,
  inherited: HardwareGeneration,
): HardwareGeneration {
  const features = message?.features;
  if (features === undefined) return inherited;
  if (features.$case === 'generation2Features') return { kind: 'generation2' };
  switch (features.value.pciTopology) {
    case PCITopology.PCI_TOPOLOGY_UNSPECIFIED:
      return inherited.kind === 'legacy' ? inherited : { kind: 'legacy', pciTopology: 'V1' };
    case PCITopology.PCI_TOPOLOGY_V1:
      return { kind: 'legacy', pciTopology: 'V1' };
    case PCITopology.PCI_TOPOLOGY_V2:
      return { kind: 'legacy', pciTopology: 'V2' };
    case PCITopology.UNRECOGNIZED:
    default:
      throw invalidArgument(
        'hardware_generation.legacy_features.pci_topology',
        `unknown value ${String(features.value.pciTopology)}`,
      );
  }
}
