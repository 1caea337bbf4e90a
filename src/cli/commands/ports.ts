/**
 * Ports: what they are, what they counted, their switches, their life and their configuration.
 * @module
 */
import type { Command } from './grammar.ts';
import { choice, command, macAddress, number, onOff, port, portOrAll, text, uint16, uint32, word } from './grammar.ts';

const display: readonly Command[] = [
  command(
    'display',
    [word('show'), word('port'), choice('what', ['info', 'stats', 'xstats', 'summary']), portOrAll],
    'Ports: properties, counters, a line each.',
    (session, values) => {
      const { display: shown } = session;
      if (values.what === 'info') shown.info(values.port);
      else if (values.what === 'stats') shown.statistics(values.port);
      else if (values.what === 'xstats') shown.extendedStatistics(values.port);
      else shown.summary(values.port);
    },
  ),
  command(
    'display',
    [word('clear'), word('port'), choice('what', ['info', 'stats', 'xstats', 'summary']), portOrAll],
    'Sets counters to 0.',
    (session, values) => {
      if (values.what === 'stats') session.display.clearStatistics(values.port);
      else if (values.what === 'xstats') session.display.clearExtendedStatistics(values.port);
    },
  ),
  command(
    'display',
    [word('show'), choice('direction', ['rxq', 'txq']), word('info'), port, number('queue', uint16)],
    'One queue: its ring and its pool.',
    (session, values) => {
      session.display.queue(values.direction === 'rxq' ? 'rx' : 'tx', values.port, values.queue);
    },
  ),
  command(
    'display',
    [
      word('show'),
      word('device'),
      word('info'),
      text('identifier', '(name|all)', (session) => [...session.ports.list().map((managed) => managed.port.name), 'all']),
    ],
    'Devices and the ports on them.',
    (session, { identifier }) => {
      session.display.device(identifier);
    },
  ),
  command(
    'display',
    [
      word('show'),
      word('port'),
      port,
      choice('direction', ['rxq', 'txq']),
      number('queue', uint16),
      word('desc'),
      number('descriptor', uint16),
      word('status'),
    ],
    'What a descriptor holds, counted from the next one.',
    (session, values) => {
      session.display.descriptorStatus(values.direction === 'rxq' ? 'rx' : 'tx', values.port, values.queue, values.descriptor);
    },
  ),
  command(
    'display',
    [word('show'), word('port'), port, word('rxq'), number('queue', uint16), word('desc'), word('used'), word('count')],
    'Packets that a receive queue holds.',
    (session, values) => {
      session.display.usedCount(values.port, values.queue);
    },
  ),
  command('display', [word('show'), word('port'), port, word('macs')], 'MAC addresses of a port.', (session, values) => {
    session.display.macAddresses(values.port);
  }),
  command('display', [word('show'), word('port'), port, word('ptypes')], 'Packet types that a port tells apart.', (session, values) => {
    session.display.packetTypes(values.port);
  }),
  command('display', [word('show'), word('port'), port, word('mcast_macs')], 'Group addresses that a port receives.', (session, values) => {
    session.display.multicastAddresses(values.port);
  }),
  command('config', [word('set'), word('port'), port, word('ptype_mask'), number('mask', uint32)], '', (session, values) => {
    session.display.refusePacketTypes(values.port);
  }),
  command(
    'config',
    [word('set'), word('xstats-hide-zero'), onOff],
    'Leaves counters that are 0 out of "show port xstats".',
    ({ settings }, { state }) => {
      settings.hideZeroStatistics = state === 'on';
    },
  ),
];

const switches: readonly Command[] = [
  command(
    'config',
    [word('set'), word('promisc'), portOrAll, onOff],
    'Receives every packet, whatever its destination.',
    (session, values) => session.switches.setPromiscuous(values.port, values.state === 'on'),
  ),
  command('config', [word('set'), word('allmulti'), portOrAll, onOff], 'Receives every multicast packet.', (session, values) =>
    session.switches.setAllMulticast(values.port, values.state === 'on'),
  ),
  command('config', [word('set'), word('link-up'), word('port'), port], 'Brings a link up.', (session, values) =>
    session.switches.setLink(values.port, true),
  ),
  command('config', [word('set'), word('link-down'), word('port'), port], 'Takes a link down.', (session, values) =>
    session.switches.setLink(values.port, false),
  ),
  command(
    'config',
    [word('set'), word('link_check'), onOff],
    'Whether starting and stopping ports looks at the links.',
    ({ settings }, { state }) => {
      settings.linkCheck = state === 'on';
    },
  ),
  command('config', [word('mac_addr'), word('set'), port, macAddress], 'Gives a port its MAC address.', (session, values) =>
    session.switches.setMac(values.port, values.mac),
  ),
  command(
    'config',
    [word('mac_addr'), choice('what', ['add', 'remove']), port, macAddress],
    'Another address that a port receives, where its device filters.',
    ({ filters }, values) =>
      values.what === 'add' ? filters.addAddress(values.port, values.mac) : filters.removeAddress(values.port, values.mac),
  ),
  command(
    'config',
    [word('mcast_addr'), choice('what', ['add', 'remove']), port, macAddress],
    'A group address that a port receives, where its device filters.',
    ({ filters }, values) => filters.changeMulticast(values.what, values.port, values.mac),
  ),
];

const life: readonly Command[] = [
  command(
    'ports',
    [word('port'), word('start'), portOrAll],
    'Starts ports, configured anew where need be.',
    async ({ control }, values) => {
      await control.start(values.port);
    },
  ),
  command('ports', [word('port'), word('stop'), portOrAll], 'Stops ports that are not forwarding.', ({ control }, values) =>
    control.stop(values.port),
  ),
  command('ports', [word('port'), word('close'), portOrAll], 'Closes ports: they are gone until attached again.', ({ control }, values) =>
    control.close(values.port),
  ),
  command('ports', [word('port'), word('reset'), portOrAll], 'Puts stopped ports back to what they were at first.', ({ control }, values) =>
    control.reset(values.port),
  ),
  command(
    'ports',
    [word('port'), word('attach'), text('identifier', '(name[,key=value]*)')],
    'Adds a device, as --vdev does.',
    ({ control }, { identifier }) => control.attach(identifier),
  ),
  command('ports', [word('port'), word('detach'), port], 'Closes a stopped port and removes its device.', ({ control }, values) =>
    control.detach(values.port),
  ),
];

const queueLife: readonly Command[] = [
  command(
    'ports',
    [word('port'), port, choice('direction', ['rxq', 'txq']), number('queue', uint16), choice('what', ['start', 'stop'])],
    'One queue of a running port, where its device can (VIRTIO_F_RING_RESET).',
    ({ switches }, values) =>
      switches.runQueue(values.direction === 'rxq' ? 'rx' : 'tx', values.port, values.queue, values.what === 'start'),
  ),
];

const configuration: readonly Command[] = [
  command(
    'ports',
    [word('port'), word('config'), word('all'), choice('setting', ['rxq', 'txq', 'rxd', 'txd']), number('value', uint16)],
    'Queues of every port, or descriptors of every queue (0: the default of the driver).',
    (session, { setting, value }) => {
      session.configuration.setQueues(setting, value);
    },
  ),
  command(
    'ports',
    [word('port'), word('config'), word('all'), word('burst'), number('value', uint16)],
    'Packets handled at once, 1 to 512.',
    (session, { value }) => {
      session.configuration.setBurst(value);
    },
  ),
  command(
    'ports',
    [word('port'), word('config'), word('all'), word('max-pkt-len'), number('value', uint32)],
    'Longest packet of every port, headers and CRC included.',
    (session, { value }) => session.configuration.setMaxPacketLength(value),
  ),
  command('ports', [word('port'), word('config'), word('mtu'), port, number('value', uint16)], 'MTU of a port.', (session, values) =>
    session.configuration.setMtu(values.port, values.value),
  ),
  command(
    'ports',
    [word('port'), word('config'), word('all'), word('max-lro-pkt-size'), number('value', uint32)],
    'Largest packet that LRO makes, of every port.',
    (session, { value }) => {
      session.configuration.setMaxLroPacketSize(value);
    },
  ),
  command(
    'ports',
    [word('port'), word('config'), word('all'), word('drop-en'), onOff],
    'Whether receive queues drop what finds no descriptor.',
    (session, { state }) => {
      session.configuration.setDropEnable(state === 'on');
    },
  ),
];

export const portCommands: readonly Command[] = [...display, ...switches, ...life, ...queueLife, ...configuration];
