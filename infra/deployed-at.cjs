// The instant of this deployment: schedules are not synced by a deployment older than the last that did.
module.exports = new Date().toISOString()
