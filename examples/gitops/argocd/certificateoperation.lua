-- Health of a CertificateOperation. One that waits for its phone is Healthy: it may do so for days, and no sync should. One
-- that failed is Degraded, like a Job, until it is taken out of Git; one that gave way to a newer wish is not.
if obj.metadata.deletionTimestamp ~= nil then
  return { status = "Progressing", message = "being deleted" }
end
local status = obj.status
if status == nil or status.phase == nil then
  return { status = "Progressing", message = "waiting for the controller" }
end
local message = status.phase
if status.reason ~= nil then
  message = message .. ": " .. status.reason
end
if status.message ~= nil and status.message ~= "" then
  message = message .. ": " .. status.message
end
if status.phase == "Failed" and status.reason ~= "Superseded" then
  return { status = "Degraded", message = message }
end
return { status = "Healthy", message = message }
