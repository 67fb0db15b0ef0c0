// Loaded into every Node.js process of a check by NODE_OPTIONS. It has test runners write what each test gave to files
// in $MIYABI_REPORTS, whatever script starts them; the process of any other program is left alone. It is also the
// reporter of `node --test`, which writes JUnit XML.
'use strict';

const fs = require('node:fs');
const path = require('node:path');

const folder = process.env.MIYABI_REPORTS || '';
const target = (runner, ending) => path.join(folder, `${runner}-${process.pid}.${ending}`);

// What each runner is given after its own arguments: the last of two options that differ holds. Before 6, mocha knows
// neither `--reporter-option` nor `--no-bail`, so its own `--bail` is taken away as well.
const OPTIONS = {
  jest: () => ['--json', `--outputFile=${target('jest', 'json')}`, '--ci', '--bail=0', '--watch=false', '--watchAll=false', '--colors=false'],
  vitest: () => ['--reporter=default', '--reporter=junit', `--outputFile.junit=${target('vitest', 'xml')}`, '--watch=false', '--bail=0'],
  mocha: () => ['--reporter=xunit', `--reporter-options=output=${target('mocha', 'xml')}`, '--no-bail', '--no-color'],
};

function runnerOf(script) {
  const file = script.replaceAll('\\', '/');
  if (/\/(?:\.bin\/jest|jest(?:-cli)?\/bin\/jest\.js|react-scripts\/scripts\/test\.js)$/.test(file)) return 'jest';
  if (/\/(?:\.bin\/vitest|vitest\/vitest\.mjs)$/.test(file)) return 'vitest';
  if (/\/(?:\.bin\/mocha|mocha\/bin\/mocha(?:\.js)?)$/.test(file)) return 'mocha';
  return '';
}

const OTHER_WORK = new Set(['list', 'bench', 'init', 'typecheck', '--listTests', '--showConfig', '--init', '--version', '--help', '-h', '-v']);

function arrange() {
  const given = process.argv.slice(2);
  const runner = runnerOf(process.argv[1] || '');
  if (runner && !given.some((argument) => OTHER_WORK.has(argument))) {
    const own = [...process.argv];
    if (runner === 'mocha') process.argv = process.argv.filter((argument) => argument !== '--bail' && argument !== '-b');
    const end = process.argv.indexOf('--', 2);  // what follows it are names of files
    process.argv.splice(end < 0 ? process.argv.length : end, 0, ...OPTIONS[runner]());
    // jest and mocha read their options as they are loaded, and then run tests in this very process: a test of a
    // command line that takes process.argv must not find options that the script did not give.
    if (runner !== 'vitest') setImmediate(() => { process.argv = own; });
  } else if (process.execArgv.includes('--test') && !process.env.NODE_TEST_CONTEXT) {
    testAnew();
  }
}

// The reporters of `node --test` are chosen before this file is loaded: so it starts once more, with them.
function testAnew() {
  const major = Number(process.versions.node.split('.')[0]);
  const chosen = process.execArgv.some((option) => option.startsWith('--test-reporter'));
  if (major < 20 || chosen || process.execArgv.includes('--watch')) return;
  const reporters = ['--test-reporter=spec', '--test-reporter-destination=stdout'];
  reporters.push(`--test-reporter=${__filename}`, `--test-reporter-destination=${target('node', 'xml')}`);
  const options = [...process.execArgv, ...reporters, ...process.argv.slice(1)];
  const { status } = require('node:child_process').spawnSync(process.execPath, options, { stdio: 'inherit' });
  process.exit(status === null ? 1 : status);
}

const ESCAPES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', '\n': '&#10;' };
const FORBIDDEN = /[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu;
const escaped = (text) => String(text).replace(FORBIDDEN, '').replace(/[&<>"\n]/g, (character) => ESCAPES[character]);

async function* report(events) {
  yield '<testsuite name="node">\n';
  const names = [];
  for await (const { type, data } of events) {
    if (type === 'test:start') {
      names.length = data.nesting;
      names.push(data.name);
    } else if ((type === 'test:pass' || type === 'test:fail') && data.details.type !== 'suite') {
      yield testCase(type === 'test:pass', data, [...names.slice(0, data.nesting), data.name]);
    }
  }
  yield '</testsuite>\n';
}

function testCase(passed, data, names) {
  const file = data.file || '';
  const isFile = path.resolve(data.name) === file;
  const attributes = isFile ? `name="${escaped(file)}"` : `classname="${escaped(file)}" name="${escaped(names.join(' > '))}"`;
  return `<testcase ${attributes}>${ending(passed, data)}</testcase>\n`;
}

function ending(passed, data) {
  if (data.skip !== undefined || data.todo !== undefined) return '<skipped/>';
  if (passed) return '';
  const cause = data.details.error?.cause ?? data.details.error;
  const message = escaped(cause?.message ?? cause);
  return `<failure message="${message}">${escaped(cause?.stack ?? cause)}</failure>`;
}

if (folder) arrange();

module.exports = report;
