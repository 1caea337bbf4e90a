/**
 * Offloads of ports and queues, and VLAN tags.
 * @module
 */
import { rxOffloadNames, txOffloadNames } from '../display/offloads.ts';
import type { OffloadNames } from '../display/offloads.ts';
import type { Session } from '../session.ts';
import type { Command, Token } from './grammar.ts';
import { choice, command, number, onOff, port, uint16, word } from './grammar.ts';

/** Bits that have a name, and no command that takes it. */
const neverAsked: readonly string[] = ['SCTP_CKSUM', 'OUTER_UDP_CKSUM'];
const neverAskedToSend: readonly string[] = ['UDP_TNL_TSO', 'IP_TNL_TSO', 'OUTER_UDP_CKSUM'];
/** Those that only a port as a whole takes. */
const ofPortOnly: readonly string[] = ['RSS_HASH', 'SEND_ON_TIMESTAMP'];

function offloadWords(names: OffloadNames, without: readonly string[]): readonly string[] {
  return names.filter(([name]) => !without.includes(name)).map(([name]) => name.toLowerCase());
}

const rxOffload = choice('offload', offloadWords(rxOffloadNames, neverAsked));
const txOffload = choice('offload', offloadWords(txOffloadNames, neverAskedToSend));
const rxQueueOffload = choice('offload', offloadWords(rxOffloadNames, [...neverAsked, ...ofPortOnly]));
const txQueueOffload = choice('offload', offloadWords(txOffloadNames, [...neverAskedToSend, ...ofPortOnly]));

/** A port, and a queue of it behind a comma. */
interface PortQueue {
  readonly port: number;
  readonly queue: number | undefined;
}

const portQueue: Token<'target', PortQueue> = {
  name: 'target',
  shape: '(port_id[,queue_id])',
  parse: (given) => {
    const [id = '', queue, ...more] = given.split(',');
    const portId = port.parse(id);
    const queueId = queue === undefined ? undefined : port.parse(queue);
    if (portId === undefined || (queue !== undefined && queueId === undefined) || more.length > 0) return undefined;
    return { port: portId, queue: queueId };
  },
  words: port.words,
};

const vlanId = number('vlan', uint16);

function setVlan(session: Session, what: 'strip' | 'filter' | 'qinq_strip' | 'extend' | 'stripq', on: boolean, target: PortQueue): unknown {
  const { offloads, output } = session;
  if (what !== 'stripq') return offloads.setVlan(what, target.port, on);
  if (target.queue === undefined) output.warn('must specify (port,queue_id)');
  else offloads.refuseVlanOfQueue(target.port, target.queue, on);
  return undefined;
}

export const offloadCommands: readonly Command[] = [
  command(
    'display',
    [
      word('show'),
      word('port'),
      port,
      choice('direction', ['rx_offload', 'tx_offload']),
      choice('what', ['capabilities', 'configuration']),
    ],
    'Offloads that a port can do, and those it was asked for.',
    ({ display }, values) => {
      const direction = values.direction === 'rx_offload' ? 'Rx' : 'Tx';
      if (values.what === 'capabilities') display.offloadCapabilities(direction, values.port);
      else display.offloadConfiguration(direction, values.port);
    },
  ),
  command(
    'ports',
    [word('port'), word('config'), port, word('rx_offload'), rxOffload, onOff],
    'An offload on all receive queues of a stopped port.',
    ({ offloads }, values) => {
      offloads.set('rx', values.port, values.offload, values.state === 'on');
    },
  ),
  command(
    'ports',
    [word('port'), word('config'), port, word('tx_offload'), txOffload, onOff],
    'An offload on all transmit queues of a stopped port.',
    ({ offloads }, values) => {
      offloads.set('tx', values.port, values.offload, values.state === 'on');
    },
  ),
  command(
    'ports',
    [word('port'), port, word('rxq'), number('queue', uint16), word('rx_offload'), rxQueueOffload, onOff],
    'An offload on one receive queue of a stopped port.',
    ({ offloads }, values) => {
      offloads.setOfQueue('rx', values.port, values.queue, values.offload, values.state === 'on');
    },
  ),
  command(
    'ports',
    [word('port'), port, word('txq'), number('queue', uint16), word('tx_offload'), txQueueOffload, onOff],
    'An offload on one transmit queue of a stopped port.',
    ({ offloads }, values) => {
      offloads.setOfQueue('tx', values.port, values.queue, values.offload, values.state === 'on');
    },
  ),
  command(
    'config',
    [word('vlan'), word('set'), choice('what', ['strip', 'filter', 'qinq_strip', 'extend', 'stripq']), onOff, portQueue],
    'What a port does with VLAN tags of received packets, at once.',
    (session, { what, state, target }) => setVlan(session, what, state === 'on', target),
  ),
  command(
    'config',
    [word('vlan'), word('set'), choice('which', ['inner', 'outer']), word('tpid'), number('type', uint16), port],
    '',
    ({ offloads }, values) => {
      offloads.refuseTagType(values.port, values.which, values.type);
    },
  ),
  command(
    'config',
    [word('rx_vlan'), choice('what', ['add', 'rm']), vlanId, port],
    'Receives packets with a tag, or no longer, where the port filters by tags.',
    ({ filters }, values) => filters.setVlan(values.vlan, values.port, values.what === 'add'),
  ),
  command(
    'config',
    [word('rx_vlan'), choice('what', ['add', 'rm']), word('all'), port],
    'The same with every tag, one after the other.',
    ({ filters }, values) => filters.setVlan('all', values.port, values.what === 'add'),
  ),
  command(
    'config',
    [word('tx_vlan'), word('set'), port, vlanId],
    'The tag that a stopped port inserts into what mac, macswap, 5tswap, txonly and flowgen send.',
    ({ offloads }, values) => {
      offloads.setTag(values.port, values.vlan);
    },
  ),
  command('config', [word('tx_vlan'), word('set'), port, vlanId, number('outer', uint16)], '', ({ offloads }, values) => {
    offloads.refuseTwoTags(values.port, values.vlan, values.outer);
  }),
  command('config', [word('tx_vlan'), word('reset'), port], 'Inserts no tags any more.', ({ offloads }, values) => {
    offloads.resetTag(values.port);
  }),
  command('config', [word('tx_vlan'), word('set'), word('pvid'), port, vlanId, onOff], '', ({ offloads }, values) => {
    offloads.setPortTag(values.port);
  }),
];
