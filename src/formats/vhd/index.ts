export { openVhd } from './image.ts';
