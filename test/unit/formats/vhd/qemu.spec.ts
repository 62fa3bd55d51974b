import { describeComparedWithQemu } from '../../../support/compared-with-qemu.ts';
import { vhdMatrix } from '../../../support/sparse-recipes.ts';

describeComparedWithQemu('vhd', vhdMatrix());
