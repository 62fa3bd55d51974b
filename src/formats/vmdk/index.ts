export { openVmdk } from './image.ts';
