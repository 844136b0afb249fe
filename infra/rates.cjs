// Rates as EventBridge Scheduler writes them: https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
const seconds = { minute: 60, hour: 3600, day: 86_400 }

/** `rate(5 minutes)` in seconds; undefined for anything else. */
exports.rateSeconds = (rate) => {
  const [, number, unit, plural] = /^rate\(([1-9]\d{0,4}) (minute|hour|day)(s?)\)$/.exec(String(rate)) ?? []
  if (unit === undefined || (number === '1') !== (plural === '')) return undefined
  return Number(number) * seconds[unit]
}
