import { describeComparedWithQemu } from '../../../support/compared-with-qemu.ts';
import { vmdkMatrix } from '../../../support/sparse-recipes.ts';

describeComparedWithQemu('vmdk', vmdkMatrix());
