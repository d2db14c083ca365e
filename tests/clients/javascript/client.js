// kafkajs against a broker, as tests/clients/README.md says. It cannot assign partitions by hand, so there is no `read`.
'use strict'

const { fail } = require('./rig')
const { admin } = require('./admin')
const { group } = require('./group')
const { write } = require('./write')

const [what, ...words] = process.argv.slice(2)
const run = { admin, group, write }[what]
if (run === undefined) fail(new Error(`no such command: ${what}`))
run(words).catch(fail)
