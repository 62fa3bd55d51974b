export { openRaw } from './image.ts';
