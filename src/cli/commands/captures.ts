/**
 * Commands about captures: what a running port receives and sends, into a file. DPDK has a program of its own for it.
 * @module
 */
import { parseCaptureOptions } from '../../port/capture-options.ts';
import type { Command } from './grammar.ts';
import { command, port, portOrAll, text, word } from './grammar.ts';

export const captureCommands: readonly Command[] = [
  command(
    'control',
    [word('capture'), word('start'), word('port'), port, word('file'), text('path')],
    'Writes every packet that a port receives and sends to a file: pcapng where its name ends so, else pcap.',
    ({ captures }, values) => {
      captures.start(values.port, parseCaptureOptions(values.path, ''));
    },
  ),
  command(
    'control',
    [word('capture'), word('start'), word('port'), port, word('file'), text('path'), text('options', '(rx|tx|key=value[,key=value]*)')],
    'The same for some of them, or to a limit: rx, tx, queue=, snaplen=, count=, size=, buffer=.',
    ({ captures }, values) => {
      captures.start(values.port, parseCaptureOptions(values.path, values.options));
    },
  ),
  command('control', [word('capture'), word('stop'), word('port'), portOrAll], 'Ends captures; the ports go on.', ({ captures }, values) =>
    captures.stop(values.port),
  ),
  command('display', [word('show'), word('capture')], 'Captures and what they have written.', ({ captures }) => {
    captures.show();
  }),
];
