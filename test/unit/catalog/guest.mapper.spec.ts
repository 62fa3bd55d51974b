import { expect } from 'chai';
import { PCITopology } from '../../../generated/yandex/cloud/compute/v1/hardware_generation.ts';
import { Os_Type } from '../../../generated/yandex/cloud/compute/v1/image.ts';
import {
  fromHardwareGenerationMessage,
  fromOsMessage,
  toHardwareGenerationMessage,
  toOsMessage,
} from '../../../src/catalog/guest.mapper.ts';
import type { HardwareGeneration, Os } from '../../../src/catalog/guest.ts';

const windows: Os = { type: 'WINDOWS', nvidiaDriver: '550' };
const v2: HardwareGeneration = { kind: 'legacy', pciTopology: 'V2' };

describe('operating system and hardware generation', () => {
  it('come back from their messages as they were', () => {
    for (const os of [windows, { type: 'LINUX' }] as Os[])
      expect(fromOsMessage(toOsMessage(os), { type: 'LINUX' })).to.deep.equal(os);
    for (const generation of [v2, { kind: 'legacy', pciTopology: 'V1' }, { kind: 'generation2' }] as HardwareGeneration[]) {
      expect(fromHardwareGenerationMessage(toHardwareGenerationMessage(generation), { kind: 'generation2' })).to.deep.equal(
        generation,
      );
    }
  });

  it('are inherited where the request leaves them unset or unspecified', () => {
    expect(fromOsMessage(undefined, windows)).to.deep.equal(windows);
    expect(fromOsMessage({ type: Os_Type.TYPE_UNSPECIFIED, nvidia: undefined }, windows)).to.deep.equal(windows);
    expect(fromHardwareGenerationMessage(undefined, v2)).to.equal(v2);
    expect(fromHardwareGenerationMessage({ features: undefined }, v2)).to.equal(v2);
  });

  it('keep the inherited topology, else V1, for legacy features that name none', () => {
    const unspecified = {
      features: { $case: 'legacyFeatures', value: { pciTopology: PCITopology.PCI_TOPOLOGY_UNSPECIFIED } },
    } as const;
    expect(fromHardwareGenerationMessage(unspecified, v2)).to.deep.equal(v2);
    expect(fromHardwareGenerationMessage(unspecified, { kind: 'generation2' })).to.deep.equal({
      kind: 'legacy',
      pciTopology: 'V1',
    });
  });
});
