import { expect } from 'chai';
import { looksLikeMarkup } from '../../../src/sources/markup.ts';

const isMarkup = (text: string, contentType?: string) => looksLikeMarkup(Buffer.from(text), contentType);

describe('looksLikeMarkup', () => {
  for (const text of [
    '<!DOCTYPE html>',
    '<!doctype HTML PUBLIC "-//W3C//DTD">',
    '\ufeff\r\n\t <HTML lang="en">',
    '<html>',
    '<!-- a --> <!-- <b> -->\n<html>',
    '<?xml version="1.0"?>\n<!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml">',
  ]) {
    it(`knows ${JSON.stringify(text)} for a page`, () => expect(isMarkup(text)).to.equal(true));
  }

  for (const text of ['<head><title>Log in</title>', '<script>', '<!-- x', '  <body>']) {
    it(`believes a server that calls ${JSON.stringify(text)} HTML`, () => {
      expect(isMarkup(text)).to.equal(false);
      expect(isMarkup(text, 'text/html; charset=utf-8')).to.equal(true);
      expect(isMarkup(text, 'application/xhtml+xml')).to.equal(true);
    });
  }

  for (const text of ['', 'QFI\u00fb', 'KDMV', '\u0000\u0000', 'html', '<htmlx', '# Disk DescriptorFile', '< html>']) {
    it(`takes ${JSON.stringify(text)} for a file, even when the server calls it HTML`, () => {
      expect(isMarkup(text)).to.equal(false);
      if (!text.startsWith('<h')) expect(isMarkup(text, 'text/html')).to.equal(false);
    });
  }

  it('looks through any number of comments in no time', () => {
    expect(isMarkup('<!---->'.repeat(1100))).to.equal(false);
    expect(isMarkup('<!--'.repeat(2000))).to.equal(false);
    expect(isMarkup(`${'<!---->'.repeat(1000)}<html>`)).to.equal(true);
  });
});
