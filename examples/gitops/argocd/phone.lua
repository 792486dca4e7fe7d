-- Health of a Phone. Healthy means that its manifest is accepted and acted on, as its condition Ready does: also while its
-- user is waited for, which may take days, and after a run that failed. The message says how it stands.
if obj.metadata.deletionTimestamp ~= nil then
  return { status = "Progressing", message = "being deleted" }
end
local status = obj.status
if status == nil or status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "waiting for the controller" }
end
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local ready, stalled = conditions.Ready, conditions.Stalled
if stalled ~= nil and stalled.status == "True" then
  return { status = "Degraded", message = stalled.reason .. ": " .. stalled.message }
end
if ready == nil then
  return { status = "Progressing", message = "waiting for the controller" }
end
if ready.status ~= "True" then
  return { status = "Progressing", message = ready.reason .. ": " .. ready.message }
end
if ready.reason == "Suspended" then
  return { status = "Suspended", message = ready.message }
end
local message = status.operationStatus or ""
if status.operation ~= nil and status.operation.reason ~= nil then
  message = message .. ": " .. status.operation.reason
end
return { status = "Healthy", message = message }
