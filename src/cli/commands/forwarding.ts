/**
 * Start and stop of forwarding, and everything that configures it.
 * @module
 */
import { parseMac } from '../../net/mac-address.ts';
import { canRetry, isEngineModule, missingEngines, olderEngineNames } from '../session/engines.ts';
import { parseItemList } from '../session/item-list.ts';
import type { ItemListRules } from '../session/item-list.ts';
import { txSplits } from '../session/settings.ts';
import type { Session } from '../session.ts';
import type { Command } from './grammar.ts';
import { choice, command, mask, number, onOff, port, text, uint16, uint32, word } from './grammar.ts';

/** DPDK's limits on lists. */
const maxPorts = 32;
const maxLcores = 128;
const maxSegments = 255;

/** The items of a list, or undefined after a line that says what is wrong with it. */
function items(session: Session, list: string, rules: ItemListRules): readonly number[] | undefined {
  const parsed = parseItemList(list, rules);
  if ('items' in parsed) return parsed.items;
  session.output.warn(parsed.error);
  return undefined;
}

function setEngine(session: Session, name: string, retry: boolean): void {
  const { output, engines, forwarding } = session;
  const older = Object.hasOwn(olderEngineNames, name) ? olderEngineNames[name] : undefined;
  if (older !== undefined) {
    const now = `set fwd ${older.engine}${older.retry ? ' retry' : ''}`;
    output.say(`"set fwd ${name}" is an older spelling of "${now}"`);
    forwarding.setEngine(older.engine, older.retry || retry);
  } else if (engines.includes(name) || isEngineModule(name)) {
    if (retry && !canRetry(name)) output.say('Bad arguments');
    else forwarding.setEngine(name, retry);
  } else if (missingEngines.includes(name)) {
    output.warn(`Packet forwarding mode ${name} is not supported yet; there are ${engines.join(', ')}`);
  } else {
    output.say('Bad arguments');
  }
}

const engine = text(
  'engine',
  '(io|mac|macswap|rxonly|txonly|flowgen|csum|icmpecho|5tswap|latency|./engine.ts)',
  (session) => session.engines,
);

export const forwardingCommands: readonly Command[] = [
  command('control', [word('start')], 'Forwards packets as configured.', (session) => session.forwarding.start(0)),
  command(
    'control',
    [word('start'), word('tx_first')],
    'The same, after one burst of generated packets from every transmit queue.',
    (session) => session.forwarding.start(1),
  ),
  command(
    'control',
    [word('start'), word('tx_first'), number('bursts', uint32)],
    'The same, after so many bursts.',
    (session, { bursts }) => session.forwarding.start(bursts),
  ),
  command('control', [word('stop')], 'Ends forwarding and shows what it did.', (session) => session.forwarding.stop()),
  command(
    'config',
    [word('set'), word('default')],
    'Takes all ports and one lcore again, with the peer addresses of the start.',
    (session) => {
      session.output.say('Reset to default forwarding configuration...');
      session.forwarding.reset();
    },
  ),
  command(
    'config',
    [word('set'), word('fwd'), engine],
    'Chooses what is done with packets: a mode, or a module that exports one.',
    (session, values) => {
      setEngine(session, values.engine, false);
    },
  ),
  command(
    'config',
    [word('set'), word('fwd'), engine, word('retry')],
    'The same, trying again what the transmit queue had no room for (not with rxonly).',
    (session, values) => {
      setEngine(session, values.engine, true);
    },
  ),
  command(
    'config',
    [word('set'), word('burst'), number('packets', uint16)],
    'Packets handled at once, 1 to 512.',
    (session, { packets }) => {
      session.forwarding.setBurst(packets);
    },
  ),
  command(
    'config',
    [word('set'), word('burst'), word('tx'), word('delay'), number('microseconds', uint32), word('retry'), number('count', uint32)],
    'How long to wait before a retry, and how many there are.',
    (session, { microseconds, count }) => {
      session.forwarding.setRetry({ count, delay: microseconds });
    },
  ),
  command(
    'config',
    [word('set'), word('txpkts'), text('lengths', '(x[,y]*)')],
    'Segment lengths in bytes of the packets that txonly makes.',
    (session, { lengths }) => {
      const list = items(session, lengths, { item: 'segment lengths', max: maxSegments, unique: false });
      if (list !== undefined) session.forwarding.setTxSegments(list);
    },
  ),
  command(
    'config',
    [word('set'), word('txsplit'), text('mode', '(off|on|rand)', () => txSplits)],
    'With rand, txonly makes packets of one to all of the segments.',
    (session, { mode }) => {
      const split = txSplits.find((known) => known === mode);
      if (split === undefined) session.output.warn(`unknown value: "${mode}"`);
      else session.settings.txSplit = split;
    },
  ),
  command(
    'config',
    [word('set'), word('txrate'), number('rate', uint32)],
    'Packets a second that txonly and flowgen send on each stream, at once; 0 for all they can. Ours: DPDK has no such command.',
    (session, { rate }) => {
      session.forwarding.setTxRate(rate);
    },
  ),
  command(
    'config',
    [word('set'), word('nbcore'), number('count', uint16)],
    'How many of the forwarding lcores take part.',
    (session, { count }) => {
      session.forwarding.setCoreCount(count);
      session.forwarding.setUp();
    },
  ),
  command(
    'config',
    [word('set'), word('nbport'), number('count', uint16)],
    'How many ports of the port list take part.',
    (session, { count }) => {
      session.forwarding.setPortCount(count);
      session.forwarding.setUp();
    },
  ),
  command(
    'config',
    [word('set'), word('portlist'), text('list', '(x[,y]*)')],
    'Ports that take part, in this order.',
    (session, { list }) => {
      if (!session.forwarding.mayChange()) return;
      const ids = items(session, list, { item: 'port', max: maxPorts, unique: true });
      if (ids === undefined) return;
      session.forwarding.setPortList(ids);
      session.forwarding.setUp();
    },
  ),
  command(
    'config',
    [word('set'), word('corelist'), text('list', '(x[,y]*)')],
    'Lcores that take part, in this order.',
    (session, { list }) => {
      if (!session.forwarding.mayChange()) return;
      const ids = items(session, list, { item: 'core', max: maxLcores, unique: true });
      if (ids === undefined) return;
      session.forwarding.setCoreList(ids);
      session.forwarding.setUp();
    },
  ),
  command('config', [word('set'), word('portmask'), mask('mask')], 'Ports that take part, a bit each.', (session, values) => {
    if (!session.forwarding.mayChange()) return;
    session.forwarding.setPortMask(values.mask);
    session.forwarding.setUp();
  }),
  command('config', [word('set'), word('coremask'), mask('mask')], 'Lcores that take part, a bit each.', (session, values) => {
    if (!session.forwarding.mayChange()) return;
    session.forwarding.setCoreMask(values.mask);
    session.forwarding.setUp();
  }),
  command(
    'config',
    [word('set'), word('eth-peer'), port, text('mac', '(XX:XX:XX:XX:XX:XX)')],
    'Destination address of packets that leave by a port, in the modes that write one.',
    (session, values) => {
      const { forwarding, output, ports } = session;
      if (!forwarding.mayChange()) return;
      const mac = parseMac(values.mac);
      if (ports.get(values.port) === undefined) output.warn(`Error: Invalid port number ${values.port}`);
      else if (mac === undefined) output.warn(`Error: Invalid ethernet address: ${values.mac}`);
      else forwarding.setPeer(values.port, mac);
      forwarding.setUp();
    },
  ),
  command(
    'config',
    [word('set'), word('verbose'), number('level', uint16)],
    'Describes packets: 1 those received, 2 those sent, 3 both; 0 none.',
    ({ settings, output, forwarding }, { level }) => {
      output.say(`Change verbose level from ${settings.verbose} to ${level}`);
      settings.verbose = level;
      forwarding.setVerbose(level);
    },
  ),
  command(
    'config',
    [word('set'), word('flush_rx'), onOff],
    'Whether a start empties the receive queues first.',
    ({ settings }, { state }) => {
      settings.flushRx = state === 'on';
    },
  ),
  command(
    'display',
    [word('show'), word('config'), word('fwd')],
    'The streams: which lcore moves packets from where to where.',
    (session) => {
      session.forwarding.showConfiguration();
    },
  ),
  command('display', [word('show'), word('config'), word('rxtx')], 'Burst, queues and offloads.', (session) => {
    session.forwarding.showQueueConfiguration();
  }),
  command('display', [word('show'), word('config'), word('cores')], 'Lcores that can take part in forwarding.', (session) => {
    session.forwarding.showCores();
  }),
  command('display', [word('show'), word('config'), word('txpkts')], 'Segments of the packets that txonly makes.', (session) => {
    session.forwarding.showTxSegments();
  }),
  // What receive splitting and send times are without the options that set them, which are not here yet.
  command('display', [word('show'), word('config'), choice('what', ['rxpkts', 'rxhdrs'])], '', ({ output }) =>
    output.say('Number of segments: 0'),
  ),
  command('display', [word('show'), word('config'), word('rxoffs')], '', ({ output }) => output.say('Number of offsets: 0')),
  command('display', [word('show'), word('config'), word('txtimes')], '', ({ output }) =>
    output.say('Interburst gap: 0\nIntraburst gap: 0'),
  ),
  command('display', [word('show'), word('fwd'), word('stats'), word('all')], 'Packets forwarded since the start, by port.', (session) => {
    session.forwarding.showStatistics();
  }),
  command(
    'display',
    [word('show'), word('fwd'), word('rate')],
    'The rate of set txrate, and packets given up because there was no room or no time for them.',
    (session) => {
      session.forwarding.showRate();
    },
  ),
  command(
    'display',
    [word('show'), word('fwd'), word('latency')],
    'How long the packets of set fwd latency were away. Ours: DPDK has no such command.',
    (session) => {
      session.forwarding.showLatency();
    },
  ),
  command('display', [word('clear'), word('fwd'), word('stats'), word('all')], 'Counts from 0 again.', (session) => {
    session.forwarding.clearStatistics();
  }),
];
