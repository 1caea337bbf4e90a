/**
 * The csum engine's checksums, segmentation, gro and gso.
 * @module
 */
import { csumLayers } from '../session/csum.ts';
import type { CsumLayer } from '../session/csum.ts';
import type { Command } from './grammar.ts';
import { choice, command, number, onOff, port, uint16, word } from './grammar.ts';

const uint8 = 0xff;

const layer = choice('layer', Object.keys(csumLayers) as CsumLayer[]);
const segmentSize = number('segsize', uint16);

export const csumCommands: readonly Command[] = [
  command(
    'config',
    [word('csum'), word('set'), layer, choice('where', ['hw', 'sw']), port],
    'Where the csum mode has the checksums of packets computed that leave by a stopped port: in the port, or in software.',
    ({ csum }, values) => {
      csum.setLayer(values.port, values.layer, values.where === 'hw');
    },
  ),
  command(
    'config',
    [word('csum'), word('parse-tunnel'), onOff, port],
    'Whether the csum mode handles the packets inside tunnels too, by the port that they leave by.',
    ({ csum }, values) => {
      csum.setParseTunnels(values.port, values.state === 'on');
    },
  ),
  command(
    'config',
    [word('csum'), word('mac-swap'), onOff, port],
    'Whether the csum mode writes Ethernet addresses into the packets that leave by a port.',
    ({ csum }, values) => {
      csum.setRewriteAddresses(values.port, values.state === 'on');
    },
  ),
  command('display', [word('csum'), word('show'), port], 'Where checksums are computed.', ({ csum }, values) => {
    csum.show(values.port);
  }),
  command(
    'config',
    [word('tso'), word('set'), segmentSize, port],
    'Payload bytes of the segments that a stopped port is asked to cut large TCP packets of the csum mode into; 0: none.',
    ({ csum }, values) => {
      csum.setSegmentSize(values.port, values.segsize);
    },
  ),
  command('display', [word('tso'), word('show'), port], 'The same, shown.', ({ csum }, values) => {
    csum.showSegmentSize(values.port);
  }),
  command('config', [word('tunnel_tso'), word('set'), segmentSize, port], '', ({ csum }, values) => {
    csum.refuseTunnelSegments(values.port, values.segsize);
  }),
  command('display', [word('tunnel_tso'), word('show'), port], '', ({ csum }, values) => {
    csum.refuseTunnelSegments(values.port, 0);
  }),
  command(
    'config',
    [word('set'), word('port'), port, word('gro'), onOff],
    'Whether the csum mode puts TCP segments received by a port into large packets.',
    ({ csum }, values) => {
      csum.setGro(values.port, values.state === 'on');
    },
  ),
  command('display', [word('show'), word('port'), port, word('gro')], 'How it does that.', ({ csum }, values) => {
    csum.showGro(values.port);
  }),
  command(
    'config',
    [word('set'), word('gro'), word('flush'), number('cycles', uint8)],
    'Out of how many bursts, 1 to 4.',
    ({ csum }, { cycles }) => {
      csum.setGroFlush(cycles);
    },
  ),
  command(
    'config',
    [word('set'), word('port'), port, word('gso'), onOff],
    'Whether the csum mode cuts packets that are too long for a port in software.',
    ({ csum }, values) => {
      csum.setGso(values.port, values.state === 'on');
    },
  ),
  command(
    'config',
    [word('set'), word('gso'), word('segsz'), number('length', uint16)],
    'Bytes of the longest packet then, headers included.',
    ({ csum }, { length }) => {
      csum.setGsoSize(length);
    },
  ),
  command('display', [word('show'), word('port'), port, word('gso')], 'The same, shown.', ({ csum }, values) => {
    csum.showGso(values.port);
  }),
];
