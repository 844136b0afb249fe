// The topics of `alarmTopics` as a list: `--param` gives text, with commas between several.
module.exports = async ({ resolveVariable }) => {
  const topics = await resolveVariable('param:alarmTopics')
  return typeof topics === 'string' ? topics.split(',').map((topic) => topic.trim()) : topics
}
