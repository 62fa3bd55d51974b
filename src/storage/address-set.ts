// Which objects were seen, in 24 to 48 bytes each: a million chunks (4 TiB) in 33 MB. It keeps 128 bits of an address, which is a hash
// already; nobody can find a second address that agrees in those.
import type { Address } from './address.ts';

const wordsPerEntry = 4;

export class AddressSet {
  #table = new Uint32Array(1024 * wordsPerEntry);
  #size = 0;
  readonly #words = new Uint32Array(wordsPerEntry);

  get size(): number {
    return this.#size;
  }

  has(address: Address): boolean {
    this.#read(address);
    return !this.#isFree(this.#find(this.#words, 0));
  }

  /** True when it was not there before. */
  add(address: Address): boolean {
    this.#read(address);
    const at = this.#find(this.#words, 0);
    if (!this.#isFree(at)) return false;
    this.#table.set(this.#words, at);
    this.#size += 1;
    if (this.#size * wordsPerEntry * 3 > this.#table.length * 2) this.#grow();
    return true;
  }

  #read(address: Address): void {
    for (let word = 0; word < wordsPerEntry; word += 1)
      this.#words[word] = Number.parseInt(address.slice(word * 8, word * 8 + 8), 16);
    // Four zeros mark a free place.
    if (this.#words.every((word) => word === 0)) this.#words[0] = 1;
  }

  /** Where the entry is whose words stand at `from` in `words`, or the free place where it belongs. */
  #find(words: Uint32Array, from: number): number {
    const table = this.#table;
    const entries = table.length / wordsPerEntry;
    // The number of places is a power of two, and addresses are spread evenly.
    let entry = words[from]! & (entries - 1);
    for (;;) {
      const at = entry * wordsPerEntry;
      const isSame =
        table[at] === words[from] &&
        table[at + 1] === words[from + 1] &&
        table[at + 2] === words[from + 2] &&
        table[at + 3] === words[from + 3];
      if (isSame || this.#isFree(at)) return at;
      entry = (entry + 1) & (entries - 1);
    }
  }

  #isFree(at: number): boolean {
    const table = this.#table;
    return (table[at]! | table[at + 1]! | table[at + 2]! | table[at + 3]!) === 0;
  }

  #grow(): void {
    const old = this.#table;
    this.#table = new Uint32Array(old.length * 2);
    for (let at = 0; at < old.length; at += wordsPerEntry) {
      const isFree = (old[at]! | old[at + 1]! | old[at + 2]! | old[at + 3]!) === 0;
      if (!isFree) this.#table.set(old.subarray(at, at + wordsPerEntry), this.#find(old, at));
    }
  }
}
