/**
 * The file of `--eth-peers-configfile`: one Ethernet address a line, the first for port 0.
 * @module
 */
import { testpmdFailure } from './failure.ts';
import { MAX_PORTS, parsePeerAddress } from './testpmd-options.ts';
import type { EthPeer } from './testpmd-settings.ts';

export type EthPeersFile =
  | { readonly kind: 'peers'; readonly peers: readonly EthPeer[] }
  /** Lines for stderr; the exit status is 1. */
  | { readonly kind: 'failure'; readonly lines: readonly string[] };

/** Reads the text of the file. Lines after the one for the last possible port are not looked at. */
export function parseEthPeersFile(path: string, text: string, programName: string): EthPeersFile {
  const peers: EthPeer[] = [];
  const lines = text.replace(/\r?\n$/, '').split(/\r?\n/);
  if (text === '') return { kind: 'peers', peers };
  for (const [port, line] of lines.slice(0, MAX_PORTS).entries()) {
    const mac = parsePeerAddress(line.trim());
    if (mac === undefined) {
      const reason = `${path}, line ${port + 1}: "${line.slice(0, 80)}" is not an Ethernet address XX:XX:XX:XX:XX:XX`;
      const failure = testpmdFailure('Cannot open logfile', reason, [`Bad MAC address format on line ${port + 1}`]);
      return { kind: 'failure', lines: failure.report(programName) };
    }
    peers.push({ port, mac });
  }
  return { kind: 'peers', peers };
}

/** What testpmd says when the file cannot be read; `why` is the system's message. */
export function ethPeersFileUnreadable(path: string, why: string, programName: string): readonly string[] {
  const lines = ['Failed to open eth config file', `: ${why}`];
  return testpmdFailure('Cannot open logfile', `--eth-peers-configfile=${path}: ${why}`, lines).report(programName);
}
