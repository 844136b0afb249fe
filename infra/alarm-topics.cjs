// The topics of `alarmTopics` as a list: `--param` gives text, with commas between several.
module.exports = async ({ resolveVariable }) => {
  const topics = await resolveVariable('param:alarmTopics')
  if (typeof topics !== 'string') return topics
  return topics
    .split(',')
    .map((topic) => topic.trim())
    .filter((topic) => topic !== '')
}
