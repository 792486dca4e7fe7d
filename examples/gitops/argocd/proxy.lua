-- Health of a CertificateAuthorityProxy. Healthy means that it serves; what else people should know of it is in the message.
if obj.metadata.deletionTimestamp ~= nil then
  return { status = "Progressing", message = "being deleted" }
end
local status = obj.status
if status == nil or status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "waiting for the controller" }
end
local ready, stalled, notices = nil, nil, {}
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Ready" then
    ready = condition
  elseif condition.type == "Stalled" then
    stalled = condition
  elseif condition.status == "True" then
    table.insert(notices, condition.type .. ": " .. condition.message)
  end
end
if stalled ~= nil and stalled.status == "True" then
  return { status = "Degraded", message = stalled.reason .. ": " .. stalled.message }
end
if ready == nil then
  return { status = "Progressing", message = "waiting for the controller" }
end
if ready.reason == "Suspended" then
  return { status = "Suspended", message = ready.message }
end
if ready.status ~= "True" then
  return { status = "Progressing", message = ready.reason .. ": " .. ready.message }
end
return { status = "Healthy", message = table.concat(notices, "; ") }
